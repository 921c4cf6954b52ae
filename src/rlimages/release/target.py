"""Open a target: make clients of its registries, and read its requirements for images."""

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
"""Seconds for which requests to a busy registry are repeated before a release stops. ECR's throttling ends earlier."""


@dataclass(frozen=True, kw_only=True)
class ReleaseTarget:
    """An open target: its settings, its requirements, and a connection to each of its registries.

    The end of a `with` block closes the connections.
    """

    name: str
    """Name in `targets.yaml`; empty for a plain registry (`--to`)."""
    rules: RawTarget
    """The settings of the target."""
    requirements: TargetRequirements
    """The requirements (scan, signature, SBOM) for its images, with keys and waivers read."""
    connections: tuple[RegistryConnection, ...]
    """One for each registry: one for a plain registry, one for each region in ECR."""

    @property
    def label(self) -> str:
        """The name of the target in journals: its name in `targets.yaml`, or the address of the plain registry."""
        return self.name or self.rules.registry or ""

    def profiles(self, project: Project) -> tuple[Profile, ...]:
        """Return the acceptance profiles of `project` that the target's images must satisfy; empty for none."""
        return tuple(load_profiles(project.root).find(name) for name in self.rules.accept)

    def __enter__(self) -> "ReleaseTarget":
        """Return this target, whose connections are closed at the end of the `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections to all registries."""
        for connection in self.connections:
            connection.client.close()


def open_target(
    project: Project, cells: Sequence[Cell], *, to: str = "", target: str = "", environ: Mapping[str, str]
) -> ReleaseTarget:
    """Return the open target with the name `target`; if it is empty, the plain registry `to` (`host[:port][/prefix]`).

    Callers open it before the first build, so that a mistake does not stop the release after hours of work. `cells` are
    the released cells: their aliases may move if `targets.yaml` does not list the tags that may. `environ` has the
    password of the signing key and the location of Docker's configuration. Raises `ConfigError` for mistakes in
    `targets.yaml` or the waivers, `SelectionError` for an unknown target, `UsageError` if the password is missing, and
    `RegistryError` if there are no AWS credentials.
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
    """Return a connection for each registry of `target`: one for a plain registry, one for each region in ECR.

    `name` is the target's name in messages and journals. If `target` does not list the tags that may move, the aliases
    of `cells` may. `environ` locates Docker's configuration, with the credentials of a plain registry. Requests to a
    busy registry are repeated for `patience` seconds. Raises `RegistryError` if AWS gives no credentials for ECR.
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
    """Return a connection to the ECR registry of `target` in one `region`.

    `floating` are the patterns of tags that may move. Requests to a busy registry are repeated for `patience` seconds.
    """
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
    """Return patterns (with *) that match all aliases of `cells`, and none of their own tags, which must not move."""
    return fold_patterns((alias for cell in cells for alias in cell.aliases), [cell.tag for cell in cells])
