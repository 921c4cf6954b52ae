"""Take a release up again, or one from another target: promote, resume, roll back."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rlimages import acceptance, inspection, ledger, packing, profiles, promotion, proof, publishing, sealing
from rlimages.cell import Cell
from rlimages.destination import (
    PROOFS,
    RELEASES,
    Destination,
    Shared,
    checks_of,
    contents_of,
    destination,
    seal_for,
    targets,
)
from rlimages.docker_engine import DockerEngine
from rlimages.errors import UsageError
from rlimages.journal import Journal
from rlimages.ledger import Release
from rlimages.places import Opened, open_places
from rlimages.profiles import Profile
from rlimages.project import Project
from rlimages.promotion import Candidate
from rlimages.proof import Proof
from rlimages.publishing import PlaceResult
from rlimages.registry import Reference
from rlimages.results import CellReport, Image
from rlimages.runs import STATE
from rlimages.shell import Stop
from rlimages.shipment import State
from rlimages.targets import FILE


def promote(
    project: Project,
    cells: Sequence[Cell],
    name: str,
    source: str,
    *,
    environ: Mapping[str, str],
    stop: Stop,
    may_go_back: bool,
    on_note: Callable[[str], None],
) -> tuple[str, tuple[PlaceResult, ...]]:
    """Promote cells from target `source` (by default what `promote_from` says) to target `name`; the release's name.

    Raises `RegistryError` where an image is missing or has no recorded PASS, and `GateError`, before anything is sent,
    for one that does not fit a profile that only `name` demands.
    """
    known = targets(project)
    source = source or known.find(name).promote_from or ""
    if not source:
        raise UsageError(f"{FILE} does not say where '{name}' is promoted from; add `promote_from`, or give --from")
    there = destination(project, cells, target=name, environ=environ)
    origin = open_places(source, known.find(source), cells, environ=environ)[0]
    try:
        chosen = promotion.candidates(cells, origin, checks_of(project), project.root / STATE / PROOFS)
        more = [profile for profile in there.target.accept if profile not in known.find(source).accept]
        _insist_on_profiles(chosen, origin, [profiles.load(project.root).find(one) for one in more], stop, on_note)
    finally:
        origin.registry.close()
    released, book = ledger.begin(project.root / STATE / RELEASES, there.label, [one.item for one in chosen], source)
    records = {one.item.cell: one.proof for one in chosen}
    return released.name, _work(project, released, book, there, records, environ, stop, may_go_back, on_note)


def _insist_on_profiles(
    chosen: Sequence[Candidate],
    origin: Opened,
    wanted: Sequence[Profile],
    stop: Stop,
    on_note: Callable[[str], None],
) -> None:
    """What the source asked of its images was asked there; for what it did not ask, their layers are read."""
    verdicts = []
    for item in (one.item for one in chosen if wanted):
        on_note(f"{item.cell}: judged by what {origin.place.name} does not ask for")
        place = Reference(host=origin.place.host, repository=origin.place.repository(item), version=item.tags[0])
        found = inspection.remote(origin.registry, place, wanted, stop=stop)
        specimen = replace(found, reference=item.cell, tags=item.tags)
        verdicts += [acceptance.judge(specimen, profile) for profile in wanted]
    acceptance.insist(verdicts)


def go_on(
    project: Project,
    name: str,
    *,
    back: bool,
    may_go_back: bool,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> tuple[PlaceResult, ...]:
    """Resume a release by its name, or roll it back. Raises `SelectionError` where there is none."""
    state = project.root / STATE
    released, book = ledger.reopen(state / RELEASES, name)
    cells = [cell for cell in project.cells if cell.id in released.cells]
    named = (project.root / FILE).exists() and released.target in targets(project).by_name
    words = {"target": released.target} if named else {"to": released.target}
    there = destination(project, cells, **words, environ=environ)
    if back:

        def tell(place: str, what: str) -> None:
            on_note(f"{place}: {what}")

        return publishing.roll_back(released, book, there.places, stop=stop, tell=tell)
    kept = {item.cell: proof.newest(item.image, state / PROOFS) for item in released.items}
    records = {cell: record for cell, record in kept.items() if record}
    return _work(project, released, book, there, records, environ, stop, may_go_back, on_note)


def _work(
    project: Project,
    released: Release,
    book: Journal,
    there: Destination,
    records: Mapping[str, Proof],
    environ: Mapping[str, str],
    stop: Stop,
    may_go_back: bool,
    on_note: Callable[[str], None],
) -> tuple[PlaceResult, ...]:
    """Deliver from where the release takes its images: the local store, or another target."""
    state = project.root / STATE

    def tell(place: str, what: str) -> None:
        on_note(f"{place}: {what}")

    with ExitStack() as stack:
        near: Shared = _nothing
        engine = DockerEngine(run=f"release-{released.name}", stop=stop)
        stack.callback(engine.close)
        if released.source:
            cells = [cell for cell in project.cells if cell.id in released.cells]
            origin = destination(project, cells, target=released.source, environ=environ)
            for opened in origin.places:
                stack.callback(opened.registry.close)
            fetch = promotion.from_registry(origin.places, {item.cell: item.tags[0] for item in released.items})
            near = promotion.shared(origin.places, released.items)
            boms = _attested(origin, there, released, book, environ, stop)
        else:
            fetch = packing.everywhere(packing.from_store(lambda image: lambda: engine.save(image), state))
            ready = [_ready(cell, released) for cell in project.cells if cell.id in released.cells]
            boms = contents_of(ready, there, project, engine, book.path.parent)
        told = publishing.deliver(
            released,
            book,
            there.places,
            fetch,
            stop=stop,
            proofs=records,
            may_go_back=may_go_back,
            shared=near,
            seal=seal_for(there, boms, book, environ, stop, tell),
            tell=tell,
        )
    if all(place.state is State.RELEASED for place in told):
        packing.clear(state)
    return told


def _nothing(_opened: Opened) -> Sequence[str]:
    """What images of the local store share with a registry."""
    return ()


def _ready(cell: Cell, released: Release) -> CellReport:
    """A cell of a release, whose image is in the local store by its id."""
    image = next(item.image for item in released.items if item.cell == cell.id)
    return CellReport(cell=cell, image=Image(id=image, size=0))


def _attested(
    origin: Destination,
    there: Destination,
    released: Release,
    book: Journal,
    environ: Mapping[str, str],
    stop: Stop,
) -> Mapping[str, str]:
    """The bills of materials that the source's key attests; none where either end has no key."""
    if there.demands.key is None or origin.demands.key is None:
        return {}
    source = origin.places[0]
    images = {}
    for item in released.items:
        manifest = source.registry.manifest(source.place.repository(item), item.tags[0])
        if manifest is not None:
            images[item] = manifest.digest
    return sealing.inherited(
        source, images, origin.demands.key, folder=book.path.parent / "source", environ=environ, stop=stop
    )
