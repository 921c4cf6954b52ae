"""The target of a release, connected, with its requirements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rlimages.engine.docker import DockerEngine
from rlimages.matrix.cell import Cell
from rlimages.plan.results import CellReport
from rlimages.project.project import Project
from rlimages.release.journal import Journal
from rlimages.release.model import REQUIREMENT_EVENT, CheckRequirements, RegistryConnection, ReleaseItem
from rlimages.release.requirements import Requirements, check_scans, read_requirements, sign_images
from rlimages.release.targets import RawTarget, connect, load_targets
from rlimages.supplychain.sbom import INVENTORY_PROGRAM, image_sbom
from rlimages.supplychain.scan import scan_summary
from rlimages.system.process import Stop


@dataclass(frozen=True, kw_only=True)
class ReleaseTarget:
    """Where a release goes, and what is asked of it there."""

    name: str
    """In `targets.yaml`; empty for a plain registry."""
    target: RawTarget
    demands: Requirements
    places: tuple[RegistryConnection, ...]

    @property
    def label(self) -> str:
        """What a journal calls it."""
        return self.name or self.target.registry or ""


def open_target(
    project: Project, cells: Sequence[Cell], *, to: str = "", target: str = "", environ: Mapping[str, str]
) -> ReleaseTarget:
    """A target by its name, or a plain registry: whatever passed goes there, and every tag may move.

    Raises what would stop a release in the end, before anything is done: a wrong file, no password for the key, no AWS
    credentials.
    """
    rules = load_targets(project).find(target) if target else RawTarget(registry=to, floating=["*"], accept=[])
    return ReleaseTarget(
        name=target,
        target=rules,
        demands=read_requirements(rules, project.root, environ),
        places=connect(target or "registry", rules, cells, environ=environ),
    )


def make_sboms(
    ready: Sequence[CellReport], there: ReleaseTarget, project: Project, engine: DockerEngine, folder: Path
) -> Mapping[str, str]:
    """The bills of materials of the images, by cell; none where nothing is signed."""
    found = {}
    for cell in ready if there.demands.key else ():
        image = engine.inspect(cell.image.id) if cell.image else None
        if image is not None:
            logs = folder / "logs" / cell.cell.id
            logs.mkdir(parents=True, exist_ok=True)
            found[cell.cell.id] = image_sbom(
                image, cell.cell.base.interpreter, engine, root=_owner(project, INVENTORY_PROGRAM), folder=logs
            )
    return found


def _owner(project: Project, path: Path) -> Path:
    """The project, or the parent of it, that has a file."""
    return next((root for root in project.roots if (root / path).exists()), project.root)


def requirements_check(
    there: ReleaseTarget,
    boms: Mapping[str, str],
    book: Journal,
    environ: Mapping[str, str],
    stop: Stop,
    tell: Callable[[str, str], None],
) -> CheckRequirements:
    """What the target asks of images that are there: that its scanner lets them pass, and that they are signed."""

    def seal(opened: RegistryConnection, images: Mapping[ReleaseItem, str]) -> None:
        say = partial(tell, opened.place.name)

        def note(cell: str, demand: str, said: str, *, passed: bool = True) -> None:
            book.write(REQUIREMENT_EVENT, place=opened.place.name, cell=cell, demand=demand, passed=passed, said=said)

        check_scans(
            opened, images, there.demands, today=datetime.now(UTC).date(), stop=stop, tell=say,
            note=lambda cell, verdict: note(cell, "scan", scan_summary(verdict), passed=verdict.passed),
        )  # fmt: skip
        signed = sign_images(
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
