"""Release what a run has checked: to a plain registry what passed, to a target of `targets.yaml` all or nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from time import monotonic

from rlimages import acceptance, inspection, promotion, proof, publishing, tree
from rlimages.cell import Cell
from rlimages.engine import DockerEngine
from rlimages.errors import Interrupted, MatrixError, RegistryError, UsageError
from rlimages.journal import Journal
from rlimages.pipeline import Event
from rlimages.places import Opened, open_places
from rlimages.profiles import Profiles
from rlimages.project import Project
from rlimages.proof import Proof
from rlimages.publishing import PlaceResult, Release
from rlimages.report import duration
from rlimages.results import CellReport, Outcome, PublishResult, RunReport
from rlimages.shell import Stop
from rlimages.shipment import State
from rlimages.smoke import find_checks
from rlimages.stages import Stage
from rlimages.targets import FILE, RawTarget, Targets, parse

STATE = ".rlimages"
"""Folder below the project root for logs, reports, releases and what passed before. Never committed."""
RELEASES = "releases"
PROOFS = "passes"

ChecksOf = Callable[[Cell], Sequence[Path]]
"""Gives the programs that check a cell."""


def targets(project: Project) -> Targets:
    """The project's targets. Raises `MatrixError` where the file is missing or wrong."""
    text = tree.read(project.root / FILE)
    if text is None:
        raise MatrixError(f"{project.root / FILE}: there is no such file; it says where --target publishes to")
    return parse(text)


def checks_of(project: Project) -> ChecksOf:
    """Finds the programs that check a cell of a project."""
    known = {name: cell for name, (_, cell) in project.family.items()}
    return lambda cell: [check.program for check in find_checks(project.roots, cell, known)]


def plain(registry: str) -> RawTarget:
    """A registry without rules: whatever passed goes there, and every tag may move."""
    return RawTarget(registry=registry, floating=["*"], accept=[])


def release(
    report: RunReport,
    target: RawTarget,
    name: str,
    *,
    checks: ChecksOf,
    profiles: Profiles,
    state: Path,
    engine: DockerEngine,
    environ: Mapping[str, str],
    stop: Stop,
    on_event: Callable[[Event], None],
    may_go_back: bool = False,
) -> tuple[RunReport, tuple[PlaceResult, ...]]:
    """Release the cells that passed. To a target that has a name, one that did not pass holds back all.

    `checks` finds the programs that check a cell, `profiles` are those that the target may ask for, `state` is the
    folder of what lasts from run to run. The report comes back with what was published, and what became of each place.
    Raises `GateError`, before anything is sent, for an image that does not fit a profile of the target.
    """
    ready = [cell for cell in report.cells if cell.outcome is Outcome.PASSED and cell.image]
    missing = [cell.cell.id for cell in report.cells if cell not in ready]
    if not ready or (missing and name):
        reason = f"nothing was released to {name}: {', '.join(missing)} did not pass" if ready else ""
        return _held_back(report, reason), ()
    _insist_on_profiles(ready, profiles, target, engine)
    items = [publishing.item_of(cell.cell, cell.image.id) for cell in ready if cell.image]
    released, book = publishing.begin(state / RELEASES, name or target.registry or "", items)
    places = open_places(name or "registry", target, [cell.cell for cell in ready], environ=environ)
    herald = _Herald(on_event, len(places))
    began = monotonic()
    for opened in places:
        herald.moved(opened.place.name, "")
    told = publishing.deliver(
        released,
        book,
        places,
        publishing.from_store(lambda image: lambda: engine.save(image), state),
        stop=stop,
        proofs=dict(_proofs(ready, checks, state)),
        may_go_back=may_go_back,
        tell=herald.moved,
    )
    for place in told:
        herald.ended(place)
    if all(place.state is State.RELEASED for place in told):
        publishing.clear(state)
    cells = tuple(_published(cell, told, ready) for cell in report.cells)
    notes = (*report.notes, *_notes(released.name, told))
    return replace(report, cells=cells, notes=notes, seconds=report.seconds + monotonic() - began), told


def _insist_on_profiles(
    ready: Sequence[CellReport], profiles: Profiles, target: RawTarget, engine: DockerEngine
) -> None:
    wanted = [profiles.find(name) for name in target.accept]
    acceptance.insist(
        verdict
        for cell in ready
        if cell.image
        for verdict in inspection.gate(engine, cell.image.id, cell.cell.tags, wanted, called=cell.cell.id)
    )


def _proofs(ready: Sequence[CellReport], checks: ChecksOf, state: Path) -> Iterator[tuple[str, Proof]]:
    for cell in ready:
        programs = checks(cell.cell)
        made = proof.prove(cell.image.id, programs, cell.smoke) if cell.image else None
        if made is not None:
            proof.keep(made, state / PROOFS)
            yield cell.cell.id, made


def _published(cell: CellReport, places: Sequence[PlaceResult], ready: Sequence[CellReport]) -> CellReport:
    if cell not in ready:
        return cell
    return replace(cell, publish=tuple(_each(cell.cell, places)))


def _each(cell: Cell, places: Sequence[PlaceResult]) -> Iterator[PublishResult]:
    for place in places:
        passed = place.state is State.RELEASED
        for tag, reference in zip(cell.tags, place.references[cell.id], strict=True):
            idle = "" if tag in place.moved[cell.id] else "was there already"
            yield PublishResult(
                cell=cell,
                reference=reference,
                outcome=Outcome.PASSED if passed else Outcome.FAILED,
                reason=idle if passed else place.reason or "the release broke off",
                digest=place.digests.get(cell.id, "") if passed else "",
                seconds=place.seconds / (len(place.references) * len(place.references[cell.id])),
            )


def _held_back(report: RunReport, reason: str) -> RunReport:
    return replace(report, notes=(*report.notes, reason)) if reason else report


def _notes(name: str, places: Sequence[PlaceResult]) -> Iterator[str]:
    for place in places:
        yield f"{place.place}: {place.state}; {_traffic(place)}"
    if any(place.state is not State.RELEASED for place in places):
        yield f"go on with `rlimages publish --resume {name}`"
    if any(place.state is State.BETWEEN for place in places):
        yield f"or go back with `rlimages publish --rollback {name}`"


class _Herald:
    """Tells of places as the pipeline tells of cells."""

    def __init__(self, on_event: Callable[[Event], None], total: int) -> None:
        self._on_event = on_event
        self._total = total
        self._done = 0
        self._began = monotonic()
        self._lock = Lock()

    def moved(self, place: str, what: str) -> None:
        self._tell(place, None, what)

    def ended(self, result: PlaceResult) -> None:
        self._done += 1
        released = result.state is State.RELEASED
        self._tell(result.place, Outcome.PASSED if released else Outcome.FAILED, result.reason)

    def _tell(self, place: str, outcome: Outcome | None, detail: str) -> None:
        with self._lock:
            self._on_event(
                Event(
                    cell=place,
                    stage=Stage.PUBLISH,
                    outcome=outcome,
                    detail=detail,
                    seconds=monotonic() - self._began,
                    done=self._done,
                    total=self._total,
                )
            )


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

    Raises `RegistryError` where an image is missing or has no recorded PASS.
    """
    known = targets(project)
    target = known.find(name)
    source = source or target.promote_from or ""
    if not source:
        raise UsageError(f"{FILE} does not say where '{name}' is promoted from; add `promote_from`, or give --from")
    state = project.root / STATE
    origins = open_places(source, known.find(source), cells, environ=environ)
    try:
        chosen = promotion.candidates(cells, origins[0], checks_of(project), state / PROOFS)
    finally:
        origins[0].registry.close()
    released, book = publishing.begin(state / RELEASES, name, [one.item for one in chosen], source)
    records = {one.item.cell: one.proof for one in chosen}
    places = open_places(name, target, cells, environ=environ)
    return released.name, _work(project, released, book, places, records, environ, stop, may_go_back, on_note)


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
    released, book = publishing.reopen(state / RELEASES, name)
    cells = [cell for cell in project.cells if cell.id in released.cells]
    named = (project.root / FILE).exists() and released.target in targets(project).by_name
    target = targets(project).find(released.target) if named else plain(released.target)
    places = open_places(released.target if named else "registry", target, cells, environ=environ)
    if back:
        return publishing.roll_back(released, book, places, stop=stop, tell=lambda *said: on_note(": ".join(said)))
    kept = {item.cell: proof.newest(item.image, state / PROOFS) for item in released.items}
    records = {cell: record for cell, record in kept.items() if record}
    return _work(project, released, book, places, records, environ, stop, may_go_back, on_note)


def _work(
    project: Project,
    released: Release,
    book: Journal,
    places: Sequence[Opened],
    records: Mapping[str, Proof],
    environ: Mapping[str, str],
    stop: Stop,
    may_go_back: bool,
    on_note: Callable[[str], None],
) -> tuple[PlaceResult, ...]:
    """Deliver from where the release takes its images: the local store, or another target."""
    state = project.root / STATE
    with ExitStack() as stack:
        near: Callable[[Opened], Sequence[str]] = lambda _opened: ()  # noqa: E731 - replaced below
        if released.source:
            cells = [cell for cell in project.cells if cell.id in released.cells]
            origins = open_places(released.source, targets(project).find(released.source), cells, environ=environ)
            for origin in origins:
                stack.callback(origin.registry.close)
            fetch = promotion.from_registry(origins, {item.cell: item.tags[0] for item in released.items})
            near = promotion.shared(origins, released.items)
        else:
            engine = DockerEngine(run=f"release-{released.name}", stop=stop)
            stack.callback(engine.close)
            fetch = publishing.from_store(lambda image: lambda: engine.save(image), state)
        told = publishing.deliver(
            released,
            book,
            places,
            fetch,
            stop=stop,
            proofs=records,
            may_go_back=may_go_back,
            shared=near,
            tell=lambda *said: on_note(": ".join(said)),
        )
    if all(place.state is State.RELEASED for place in told):
        publishing.clear(state)
    return told


def lines(places: Sequence[PlaceResult]) -> Iterator[str]:
    """What became of each place, for people."""
    for place in places:
        yield f"{place.place}: {place.state}" + (f": {place.reason}" if place.reason else "")
        yield f"  {_traffic(place)}"


def _traffic(place: PlaceResult) -> str:
    calls = ", ".join(f"{count} {call}" for call, count in place.calls.items())
    return f"{place.uploads} blobs ({place.bytes / 1e6:.0f} MB) sent in {duration(place.seconds)}; {calls}"


def exit_code(places: Sequence[PlaceResult]) -> int:
    """0 when every place is as was wanted; 130 when interrupted; else that of a registry that refused."""
    if all(not place.reason for place in places):
        return 0
    interrupted = any(place.reason == Interrupted.__name__.lower() for place in places)
    return Interrupted.exit_code if interrupted else RegistryError.exit_code
