"""Open the registries of a target: one for a plain registry, one for each region of ECR."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rlimages import ecr, mutability
from rlimages.cell import Cell
from rlimages.ecr import Ecr, EcrCredentials
from rlimages.login import Credentials, DockerCredentials, RegistryLogin
from rlimages.meter import Meter
from rlimages.registry import Registry
from rlimages.shipment import Place, Untag, build_tag
from rlimages.targets import RawTarget

_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")
UPLOAD_PATIENCE = 120.0
"""Seconds that a registry may be busy before a release breaks off: ECR's throttling passes in less."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A place, and the line to it."""

    place: Place
    registry: Registry
    meter: Meter
    credentials: Credentials
    """Who we are there."""
    untag: Untag | None = None
    """ECR's own way to remove a tag."""
    ensure: Callable[[str], bool] = lambda _repository: False
    """Creates a repository where there is none; True when it did."""
    ecr: Ecr | None = None


def open_places(
    name: str,
    target: RawTarget,
    cells: Iterable[Cell],
    *,
    environ: Mapping[str, str],
    patience: float = UPLOAD_PATIENCE,
) -> tuple[Opened, ...]:
    """The places of a target. Raises `RegistryError` where AWS can't be asked who we are."""
    chosen = tuple(cells)
    floating = tuple(target.floating) if target.floating is not None else _aliases(chosen)
    if target.registry is not None:
        host, _, prefix = target.registry.partition("/")
        meter = Meter()
        known = HostCredentials(environ)
        login = RegistryLogin(known)
        place = Place(name=name, host=host, prefix=prefix, floating=floating)
        registry = Registry(host, login=login, meter=meter, patience=patience)
        return (Opened(place=place, registry=registry, meter=meter, credentials=known),)
    assert target.ecr is not None
    return tuple(_region(name, target, region, chosen, floating, patience) for region in target.ecr.regions)


class HostCredentials(Credentials):
    """As `docker login` left it; where that knows nothing of a registry of ECR, by boto3's usual credentials."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """For any host."""
        self._docker = DockerCredentials(docker_folder(environ))
        self._ecr: dict[str, EcrCredentials] = {}

    def find(self, host: str) -> tuple[str, str] | None:
        """User and password. Raises `RegistryError` where AWS can't be asked."""
        return self._of(host).find(host)

    def forget(self, host: str) -> bool:
        """Look again the next time."""
        return self._of(host).forget(host)

    def _of(self, host: str) -> Credentials:
        found = _ECR.match(host)
        if found is None or self._docker.find(host) is not None:
            return self._docker
        if host not in self._ecr:
            self._ecr[host] = EcrCredentials(ecr.open_ecr(found["region"], account=found["account"]))
        return self._ecr[host]


def docker_folder(environ: Mapping[str, str]) -> Path:
    """Where `docker login` leaves what it learns."""
    return Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _region(
    name: str, target: RawTarget, region: str, cells: Sequence[Cell], floating: Sequence[str], patience: float
) -> Opened:
    assert target.ecr is not None
    meter = Meter()
    control = ecr.open_ecr(region, account=target.ecr.account, profile=target.ecr.profile, meter=meter)
    host = control.where.host
    place = Place(name=f"{name}/{region}", host=host, prefix=target.prefix, floating=tuple(floating), held_by_tag=True)

    def ensure(repository: str) -> bool:
        own = repository.removeprefix(f"{target.prefix}/") if target.prefix else repository
        tags = [tag for cell in cells if cell.repository == own for tag in cell.tags]
        moving = [pattern for pattern in floating if any(fnmatchcase(tag, pattern) for tag in tags)]
        moving += [build_tag("*")] if tags and "*" not in moving else []  # the newest of the same inputs has it
        return control.ensure(repository, target.repositories, moving)

    known = EcrCredentials(control)
    return Opened(
        place=place,
        registry=Registry(host, login=RegistryLogin(known), meter=meter, patience=patience),
        meter=meter,
        credentials=known,
        untag=control.untag,
        ensure=ensure,
        ecr=control,
    )


def _aliases(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Patterns of the tags that move with each version."""
    return mutability.fold((alias for cell in cells for alias in cell.aliases), [cell.tag for cell in cells])
