"""Read `targets.yaml`, and connect to the registries of a target."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from rlimages.config.schema import EnvName, Name, StrictModel
from rlimages.config.validation import validate_document
from rlimages.config.yaml import config_error, load_yaml
from rlimages.errors import ConfigError, SelectionError, did_you_mean
from rlimages.matrix.cell import Cell
from rlimages.project.project import Project
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import EcrCredentials, HostCredentials, RawRepositories, fold_patterns, open_ecr
from rlimages.registry.http import RequestCounter
from rlimages.release.model import RegistryConnection, TargetRegistry, build_tag
from rlimages.system.files import read_text

TARGETS_FILE = "targets.yaml"
DOCKER_HUB_STYLE = r"^[^/\s]+(:\d+)?(/[a-z0-9._-]+)*$"
Region = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d+$", description="us-west-2")]
Account = Annotated[str, Field(pattern=r"^\d{12}$", description="Twelve digits, in quotes.")]
Pattern = Annotated[str, Field(min_length=1, description="Tags, with * and ?.")]


class RawEcr(StrictModel):
    """Amazon ECR, over boto3's usual credentials."""

    regions: list[Region] = Field(min_length=1)
    account: Account | None = Field(default=None, description="By default the one that the credentials belong to.")
    profile: str | None = Field(default=None, description="Of the AWS configuration.")


class RawScan(StrictModel):
    """When what ECR's scanner finds stops a release."""

    fail_on: Literal["critical", "high", "medium", "low", "informational"] = "high"
    waivers: str | None = Field(default=None, description="File with the findings that somebody accepts.")


class RawTarget(StrictModel):
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


class RawTargets(StrictModel):
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
            hint = did_you_mean(name, self.by_name) or f"; {TARGETS_FILE} has {', '.join(self.by_name) or 'none'}"
            raise SelectionError(f"there is no target '{name}'{hint}")
        return self.by_name[name]


def parse_targets(text: str, name: str = TARGETS_FILE) -> Targets:
    """Read the file. Raises `ConfigError` with every mistake and its place."""
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
            problems.append(document.problem((*path, "sign_password"), "there is no key in 'sign' that it could open"))
        if target.promote_from is not None and target.promote_from not in raw.targets:
            what = f"there is no target '{target.promote_from}'{did_you_mean(target.promote_from, raw.targets)}"
            problems.append(document.problem((*path, "promote_from"), what))
        if target.promote_from == key:
            problems.append(document.problem((*path, "promote_from"), "a target can't be promoted from itself"))
    if problems:
        raise config_error(name, problems)
    return Targets(by_name=raw.targets)


def load_targets(project: Project) -> Targets:
    """The project's targets. Raises `ConfigError` where the file is missing or wrong."""
    text = read_text(project.root / TARGETS_FILE)
    if text is None:
        raise ConfigError(f"{project.root / TARGETS_FILE}: there is no such file; it says where --target publishes to")
    return parse_targets(text)


UPLOAD_PATIENCE = 120.0
"""Seconds that a registry may be busy before a release breaks off: ECR's throttling passes in less."""


def connect(
    name: str,
    target: RawTarget,
    cells: Iterable[Cell],
    *,
    environ: Mapping[str, str],
    patience: float = UPLOAD_PATIENCE,
) -> tuple[RegistryConnection, ...]:
    """The places of a target. Raises `RegistryError` where AWS can't be asked who we are."""
    chosen = tuple(cells)
    floating = tuple(target.floating) if target.floating is not None else _alias_patterns(chosen)
    if target.registry is not None:
        host, _, prefix = target.registry.partition("/")
        meter = RequestCounter()
        known = HostCredentials(environ)
        login = RegistryLogin(known)
        place = TargetRegistry(name=name, host=host, prefix=prefix, floating=floating)
        registry = RegistryClient(host, login=login, meter=meter, patience=patience)
        return (RegistryConnection(place=place, registry=registry, meter=meter, credentials=known),)
    assert target.ecr is not None
    return tuple(_connect_region(name, target, region, chosen, floating, patience) for region in target.ecr.regions)


def _connect_region(
    name: str, target: RawTarget, region: str, cells: Sequence[Cell], floating: Sequence[str], patience: float
) -> RegistryConnection:
    assert target.ecr is not None
    meter = RequestCounter()
    control = open_ecr(region, account=target.ecr.account, profile=target.ecr.profile, meter=meter)
    host = control.where.host
    place = TargetRegistry(
        name=f"{name}/{region}", host=host, prefix=target.prefix, floating=tuple(floating), held_by_tag=True
    )

    def ensure(repository: str) -> bool:
        own = repository.removeprefix(f"{target.prefix}/") if target.prefix else repository
        tags = [tag for cell in cells if cell.repository == own for tag in cell.tags]
        moving = [pattern for pattern in floating if any(fnmatchcase(tag, pattern) for tag in tags)]
        moving += [build_tag("*")] if tags and "*" not in moving else []  # the newest of the same inputs has it
        return control.ensure(repository, target.repositories, moving)

    known = EcrCredentials(control)
    return RegistryConnection(
        place=place,
        registry=RegistryClient(host, login=RegistryLogin(known), meter=meter, patience=patience),
        meter=meter,
        credentials=known,
        untag=control.untag,
        ensure=ensure,
        ecr=control,
    )


def _alias_patterns(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Patterns of the tags that move with each version."""
    return fold_patterns((alias for cell in cells for alias in cell.aliases), [cell.tag for cell in cells])
