"""Read `targets.yaml`: where images are published to, and by which rules. Text in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from rlimages import located
from rlimages.errors import SelectionError
from rlimages.schema import EnvName, Name, Strict
from rlimages.validation import did_you_mean, validate

FILE = "targets.yaml"
DOCKER_HUB_STYLE = r"^[^/\s]+(:\d+)?(/[a-z0-9._-]+)*$"

Region = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d+$", description="us-west-2")]
Account = Annotated[str, Field(pattern=r"^\d{12}$", description="Twelve digits, in quotes.")]
Pattern = Annotated[str, Field(min_length=1, description="Tags, with * and ?.")]


class RawEncryption(Strict):
    """How ECR encrypts a repository that we create."""

    type: Literal["AES256", "KMS"] = "AES256"
    key: str | None = Field(default=None, description="ARN of a KMS key; by default the one of ECR.")


class RawRepositories(Strict):
    """What repositories are like that we create; those that exist are left alone."""

    immutable: bool = Field(default=True, description="Tags stay; but those of `floating`, where ECR can except them.")
    scan_on_push: bool = True
    encryption: RawEncryption = RawEncryption()
    lifecycle: dict[str, Any] | None = Field(default=None, description="ECR's lifecycle policy, as it takes it.")
    tags: dict[str, str] = Field(default={}, description="Cost allocation and the like.")


class RawEcr(Strict):
    """Amazon ECR, over boto3's usual credentials."""

    regions: list[Region] = Field(min_length=1)
    account: Account | None = Field(default=None, description="By default the one that the credentials belong to.")
    profile: str | None = Field(default=None, description="Of the AWS configuration.")


class RawScan(Strict):
    """When what ECR's scanner finds stops a release."""

    fail_on: Literal["critical", "high", "medium", "low", "informational"] = "high"
    waivers: str | None = Field(default=None, description="File with the findings that somebody accepts.")


class RawTarget(Strict):
    """One place to publish to, which may be several regions."""

    registry: str | None = Field(default=None, pattern=DOCKER_HUB_STYLE, description="host[:port][/prefix]")
    ecr: RawEcr | None = None
    prefix: str = Field(default="", pattern=r"^([a-z0-9._-]+(/[a-z0-9._-]+)*)?$", description="Of all repositories.")
    floating: list[Pattern] | None = Field(default=None, description="Tags that may move; by default the aliases.")
    accept: list[Name] = Field(default=["sagemaker-training"], description="Profiles that every image must fit.")
    promote_from: Name | None = Field(default=None, description="The target whose images come here, by digest.")
    repositories: RawRepositories = RawRepositories()
    sign: str | None = Field(default=None, description="cosign's key: a file, or a KMS URI.")
    sign_password: EnvName | None = Field(default=None, description="Variable with the password of that file.")
    scan: RawScan | None = Field(default=None, description="Only for ECR; without it nothing is asked of the scanner.")


class RawTargets(Strict):
    """Where `rlimages` publishes."""

    version: Literal[1] = Field(description="Version of this format.")
    targets: dict[Name, RawTarget] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """All targets of a project, by name."""

    by_name: Mapping[str, RawTarget]

    def find(self, name: str) -> RawTarget:
        """The target of this name. Raises `SelectionError`."""
        if name not in self.by_name:
            hint = did_you_mean(name, self.by_name) or f"; {FILE} has {', '.join(self.by_name) or 'none'}"
            raise SelectionError(f"there is no target '{name}'{hint}")
        return self.by_name[name]


def parse(text: str, name: str = FILE) -> Targets:
    """Read the file. Raises `MatrixError` with every mistake and its place."""
    document = located.load(text, name)
    raw = validate(document, name, RawTargets)
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
            problems.append(document.problem((*path, "sign_password"), "there is no key in 'sign' that it could open"))
        if target.promote_from is not None and target.promote_from not in raw.targets:
            what = f"there is no target '{target.promote_from}'{did_you_mean(target.promote_from, raw.targets)}"
            problems.append(document.problem((*path, "promote_from"), what))
        if target.promote_from == key:
            problems.append(document.problem((*path, "promote_from"), "a target can't be promoted from itself"))
    if problems:
        raise located.fail(name, problems)
    return Targets(by_name=raw.targets)
