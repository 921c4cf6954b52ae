"""Read `targets.yaml`: the targets that images are published to. No registry is contacted here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from rlimages.config.schema import EnvName, Name, StrictModel
from rlimages.config.validation import validate_document
from rlimages.config.yaml import config_error, load_yaml
from rlimages.errors import ConfigError, SelectionError, did_you_mean
from rlimages.project.project import Project
from rlimages.registry.repository_settings import RawRepositories
from rlimages.system.files import read_text

TARGETS_FILE = "targets.yaml"
"""Name of the file in the project's root."""
_REGISTRY_PATTERN = r"^[^/\s]+(:\d+)?(/[a-z0-9._-]+)*$"
_PREFIX_PATTERN = r"^([a-z0-9._-]+(/[a-z0-9._-]+)*)?$"
Region = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d+$", description="us-west-2")]
Account = Annotated[str, Field(pattern=r"^\d{12}$", description="Twelve digits, in quotes.")]
Pattern = Annotated[str, Field(min_length=1, description="Tags, with * and ?.")]


class RawEcr(StrictModel):
    """The key `ecr` of a target, as it is written in `targets.yaml`: publish to Amazon ECR in one or more regions.

    The credentials are those that boto3 finds.
    """

    regions: list[Region] = Field(min_length=1)
    account: Account | None = Field(default=None, description="By default the account of the credentials.")
    profile: str | None = Field(default=None, description="Profile of the AWS configuration.")


class RawScan(StrictModel):
    """The key `scan` of a target, as written in `targets.yaml`: which findings of ECR's scanner stop a release."""

    fail_on: Literal["critical", "high", "medium", "low", "informational"] = "high"
    waivers: str | None = Field(default=None, description="File with the findings that somebody accepts.")


class RawTarget(StrictModel):
    """One target, as it is written in `targets.yaml`: a registry to publish to, or ECR in one or more regions."""

    registry: str | None = Field(default=None, pattern=_REGISTRY_PATTERN, description="host[:port][/prefix]")
    ecr: RawEcr | None = None
    prefix: str = Field(default="", pattern=_PREFIX_PATTERN, description="In front of all repository names.")
    floating: list[Pattern] | None = Field(default=None, description="Tags that may move; by default the aliases.")
    accept: list[Name] = Field(
        default=["sagemaker-training"], description="Acceptance profiles that every image must satisfy."
    )
    promote_from: Name | None = Field(
        default=None, description="The target whose images are promoted to this one, by digest."
    )
    repositories: RawRepositories = RawRepositories()
    sign: str | None = Field(default=None, description="cosign's private key: a file, or a KMS URI.")
    sign_password: EnvName | None = Field(default=None, description="Variable with the password of that file.")
    scan: RawScan | None = Field(default=None, description="Only for ECR; without it scan findings are not read.")


class RawTargets(StrictModel):
    """The content of `targets.yaml`: the targets that `rlimages` publishes to, by name."""

    version: Literal[1] = Field(description="Version of this format.")
    targets: dict[Name, RawTarget] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """All targets of a project."""

    by_name: Mapping[str, RawTarget]
    """Name of the target -> its settings."""

    def find(self, name: str) -> RawTarget:
        """Return the settings of the target `name`. Raises `SelectionError` if `targets.yaml` does not have it."""
        if name not in self.by_name:
            hint = did_you_mean(name, self.by_name) or f"; {TARGETS_FILE} has {', '.join(self.by_name) or 'none'}"
            raise SelectionError(f"there is no target '{name}'{hint}")
        return self.by_name[name]


def parse_targets(text: str, name: str = TARGETS_FILE) -> Targets:
    """Return the targets in `text`, the content of `targets.yaml`.

    Raises `ConfigError` that lists every mistake with its position; `name` is the file name in the messages.
    """
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawTargets)
    problems = []
    for key, target in raw.targets.items():
        path = ("targets", key)
        if (target.registry is None) == (target.ecr is None):
            problems.append(document.problem(path, "a target has either 'registry' or 'ecr'"))
        if target.registry is not None and target.prefix:
            problems.append(document.problem((*path, "prefix"), "write the prefix behind the registry: host/prefix"))
        if target.scan is not None and target.ecr is None:
            problems.append(document.problem((*path, "scan"), "only ECR scans: this target has no 'ecr'"))
        if target.sign_password is not None and target.sign is None:
            problems.append(
                document.problem((*path, "sign_password"), "this is the password of a key, but 'sign' is missing")
            )
        if target.promote_from is not None and target.promote_from not in raw.targets:
            problem = f"there is no target '{target.promote_from}'{did_you_mean(target.promote_from, raw.targets)}"
            problems.append(document.problem((*path, "promote_from"), problem))
        if target.promote_from == key:
            problems.append(document.problem((*path, "promote_from"), "a target can't be promoted from itself"))
    if problems:
        raise config_error(name, problems)
    return Targets(by_name=raw.targets)


def load_targets(project: Project) -> Targets:
    """Return the targets in the `targets.yaml` of `project`. Raises `ConfigError` if it is missing or has mistakes."""
    text = read_text(project.root / TARGETS_FILE)
    if text is None:
        raise ConfigError(f"{project.root / TARGETS_FILE}: there is no such file; it defines the targets of --target")
    return parse_targets(text)
