"""Open a target: connect to its registries, and read what it requires of its images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rlimages.checks.profiles import Profile, load_profiles
from rlimages.matrix.cell import Cell
from rlimages.project.project import Project
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import EcrCredentials, HostCredentials, open_ecr
from rlimages.registry.repository_settings import fold_patterns
from rlimages.registry.request_counter import RequestCounter
from rlimages.release.model import RegistryConnection, TargetRegistry
from rlimages.release.requirements import TargetRequirements, read_requirements
from rlimages.release.tags import build_tag
from rlimages.release.targets_file import RawTarget, load_targets

UPLOAD_PATIENCE = 120.0
"""Seconds for which a busy registry is asked again before a release stops. ECR's throttling ends earlier."""


@dataclass(frozen=True, kw_only=True)
class ReleaseTarget:
    """A target that is connected. Leaving its context closes the connections."""

    name: str
    """Name in `targets.yaml`; empty for a plain registry (`--to`)."""
    rules: RawTarget
    requirements: TargetRequirements
    connections: tuple[RegistryConnection, ...]

    @property
    def label(self) -> str:
        """The name of the target in journals: its name in `targets.yaml`, or the address of the plain registry."""
        return self.name or self.rules.registry or ""

    def profiles(self, project: Project) -> tuple[Profile, ...]:
        """Return the acceptance profiles that its images must satisfy."""
        return tuple(load_profiles(project.root).find(name) for name in self.rules.accept)

    def __enter__(self) -> "ReleaseTarget":
        """Return the target itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        for connection in self.connections:
            connection.client.close()


def open_target(
    project: Project, cells: Sequence[Cell], *, to: str = "", target: str = "", environ: Mapping[str, str]
) -> ReleaseTarget:
    """Open the target with the name `target`, or the plain registry `to`, for a release of `cells`.

    This is done before anything is built, so that a mistake does not stop the release after hours of work. Raises
    `ConfigError` for mistakes in a file, `SelectionError` for an unknown target, `UsageError` if the key's password is
    not in the environment, and `RegistryError` if there are no AWS credentials.
    """
    # `--to` is for a private registry: every tag may move, and no acceptance rules are applied.
    rules = load_targets(project).find(target) if target else RawTarget(registry=to, floating=["*"], accept=[])
    return ReleaseTarget(
        name=target,
        rules=rules,
        requirements=read_requirements(rules, project.root, environ),
        connections=connect(target or "registry", rules, cells, environ=environ),
    )


def connect(
    name: str,
    target: RawTarget,
    cells: Iterable[Cell],
    *,
    environ: Mapping[str, str],
    patience: float = UPLOAD_PATIENCE,
) -> tuple[RegistryConnection, ...]:
    """Return a connection for each registry of a target. `cells` decide which tags may move if the target does not say.

    Raises `RegistryError` if AWS is not available or has no credentials.
    """
    chosen = tuple(cells)
    floating = tuple(target.floating) if target.floating is not None else _alias_patterns(chosen)
    if target.registry is not None:
        host, _, prefix = target.registry.partition("/")
        counter = RequestCounter()
        credentials = HostCredentials(environ)
        client = RegistryClient(host, login=RegistryLogin(credentials), counter=counter, patience=patience)
        registry = TargetRegistry(name=name, host=host, prefix=prefix, floating=floating)
        return (RegistryConnection(registry=registry, client=client, counter=counter, credentials=credentials),)
    assert target.ecr is not None
    return tuple(_connect_region(name, target, region, chosen, floating, patience) for region in target.ecr.regions)


def _connect_region(
    name: str, target: RawTarget, region: str, cells: Sequence[Cell], floating: Sequence[str], patience: float
) -> RegistryConnection:
    assert target.ecr is not None
    counter = RequestCounter()
    ecr = open_ecr(region, account=target.ecr.account, profile=target.ecr.profile, counter=counter)
    registry = TargetRegistry(
        name=f"{name}/{region}",
        host=ecr.address.host,
        prefix=target.prefix,
        floating=tuple(floating),
        expires_untagged=True,  # a lifecycle policy of the repository may delete images without a tag
    )

    def ensure_repository(repository: str) -> bool:
        own = repository.removeprefix(f"{target.prefix}/") if target.prefix else repository
        tags = [tag for cell in cells if cell.repository == own for tag in cell.tags]
        movable = [pattern for pattern in floating if any(fnmatchcase(tag, pattern) for tag in tags)]
        if tags and "*" not in movable:
            movable.append(build_tag("*"))  # moves when the same inputs are built again
        return ecr.ensure_repository(repository, target.repositories, movable)

    credentials = EcrCredentials(ecr)
    return RegistryConnection(
        registry=registry,
        client=RegistryClient(registry.host, login=RegistryLogin(credentials), counter=counter, patience=patience),
        counter=counter,
        credentials=credentials,
        ensure_repository=ensure_repository,
        ecr=ecr,
    )


def _alias_patterns(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return patterns that match the aliases of the cells, and none of their own tags."""
    return fold_patterns((alias for cell in cells for alias in cell.aliases), [cell.tag for cell in cells])
