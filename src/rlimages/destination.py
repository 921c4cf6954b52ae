"""Where a release goes: the target, its places, what is asked of images there, and what this machine remembers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rlimages import inventory, scan, sealing, tree
from rlimages.cell import Cell
from rlimages.docker_engine import DockerEngine
from rlimages.errors import MatrixError
from rlimages.journal import Journal
from rlimages.places import Opened, open_places
from rlimages.project import Project
from rlimages.publishing import DEMANDED, Seal
from rlimages.results import CellReport
from rlimages.sealing import Demands
from rlimages.shell import Stop
from rlimages.shipment import Item
from rlimages.smoke import find_checks
from rlimages.targets import FILE, RawTarget, Targets, parse

RELEASES = "releases"
PROOFS = "passes"

ChecksOf = Callable[[Cell], Sequence[Path]]
"""Gives the programs that check a cell."""
Shared = Callable[[Opened], Sequence[str]]
"""Gives the repositories of a place that may have a release's layers already."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a release goes, and what is asked of it there."""

    name: str
    """In `targets.yaml`; empty for a plain registry."""
    target: RawTarget
    demands: Demands
    places: tuple[Opened, ...]

    @property
    def label(self) -> str:
        """What a journal calls it."""
        return self.name or self.target.registry or ""


def targets(project: Project) -> Targets:
    """The project's targets. Raises `MatrixError` where the file is missing or wrong."""
    text = tree.read(project.root / FILE)
    if text is None:
        raise MatrixError(f"{project.root / FILE}: there is no such file; it says where --target publishes to")
    return parse(text)


def destination(
    project: Project, cells: Sequence[Cell], *, to: str = "", target: str = "", environ: Mapping[str, str]
) -> Destination:
    """A target by its name, or a plain registry: whatever passed goes there, and every tag may move.

    Raises what would stop a release in the end, before anything is done: a wrong file, no password for the key, no AWS
    credentials.
    """
    rules = targets(project).find(target) if target else RawTarget(registry=to, floating=["*"], accept=[])
    return Destination(
        name=target,
        target=rules,
        demands=sealing.demands_of(rules, project.root, environ),
        places=open_places(target or "registry", rules, cells, environ=environ),
    )


def checks_of(project: Project) -> ChecksOf:
    """Finds the programs that check a cell of a project."""
    known = {name: cell for name, (_, cell) in project.family.items()}
    return lambda cell: [check.program for check in find_checks(project.roots, cell, known)]


def contents_of(
    ready: Sequence[CellReport], there: Destination, project: Project, engine: DockerEngine, folder: Path
) -> Mapping[str, str]:
    """The bills of materials of the images, by cell; none where nothing is signed."""
    found = {}
    for cell in ready if there.demands.key else ():
        image = engine.inspect(cell.image.id) if cell.image else None
        if image is not None:
            logs = folder / "logs" / cell.cell.id
            logs.mkdir(parents=True, exist_ok=True)
            found[cell.cell.id] = inventory.bill_of_materials(
                image, cell.cell.base.interpreter, engine, root=_owner(project, inventory.PROGRAM), folder=logs
            )
    return found


def _owner(project: Project, path: Path) -> Path:
    """The project, or the parent of it, that has a file."""
    return next((root for root in project.roots if (root / path).exists()), project.root)


def seal_for(
    there: Destination,
    boms: Mapping[str, str],
    book: Journal,
    environ: Mapping[str, str],
    stop: Stop,
    tell: Callable[[str, str], None],
) -> Seal:
    """What the target asks of images that are there: that its scanner lets them pass, and that they are signed."""

    def seal(opened: Opened, images: Mapping[Item, str]) -> None:
        say = partial(tell, opened.place.name)

        def note(cell: str, demand: str, said: str, *, passed: bool = True) -> None:
            book.write(DEMANDED, place=opened.place.name, cell=cell, demand=demand, passed=passed, said=said)

        sealing.judge(
            opened, images, there.demands, today=datetime.now(UTC).date(), stop=stop, tell=say,
            note=lambda cell, verdict: note(cell, "scan", scan.summary(verdict), passed=verdict.passed),
        )  # fmt: skip
        signed = sealing.sign(
            opened, images, there.target, there.demands, boms,
            folder=book.path.parent / opened.place.name.replace("/", "-"), environ=environ, stop=stop, tell=say,
        )  # fmt: skip
        for item, told in zip(images, signed, strict=bool(signed)):
            note(item.cell, "signature", f"by {told.fingerprint} at {told.signed or 'a time that it does not say'}")
            if told.bom is not None:
                note(
                    item.cell, "contents", f"{len(told.bom.get('components', ()))} components, attested by the same key"
                )

    return seal
