"""Open the registries of a target: one for a plain registry, one for each region of ECR."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rlimages import ecr
from rlimages.cell import Cell
from rlimages.ecr import Ecr, EcrCredentials
from rlimages.login import DockerCredentials, RegistryLogin
from rlimages.meter import Meter
from rlimages.registry import Registry
from rlimages.shipment import Place, Untag
from rlimages.targets import RawTarget

UPLOAD_PATIENCE = 120.0
"""Seconds that a registry may be busy before a release breaks off: ECR's throttling passes in less."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A place, and the line to it."""

    place: Place
    registry: Registry
    meter: Meter
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
        login = RegistryLogin(DockerCredentials(docker_folder(environ)))
        place = Place(name=name, host=host, prefix=prefix, floating=floating)
        return (Opened(place=place, registry=Registry(host, login=login, meter=meter, patience=patience), meter=meter),)
    assert target.ecr is not None
    return tuple(_region(name, target, region, chosen, floating, patience) for region in target.ecr.regions)


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
        return control.ensure(repository, target.repositories, moving)

    return Opened(
        place=place,
        registry=Registry(host, login=RegistryLogin(EcrCredentials(control)), meter=meter, patience=patience),
        meter=meter,
        untag=control.untag,
        ensure=ensure,
        ecr=control,
    )


def _aliases(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Patterns of the tags that move with each version."""
    return ecr.fold((alias for cell in cells for alias in cell.aliases), [cell.tag for cell in cells])
