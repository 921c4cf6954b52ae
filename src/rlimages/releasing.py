"""Release what a run has checked: to a plain registry what passed, to a target of `targets.yaml` all or nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from time import monotonic
from types import MappingProxyType

from rlimages import acceptance, inspection, ledger, packing, profiles, promotion, proof, publishing, sealing
from rlimages.cell import Cell
from rlimages.destination import (
    PROOFS,
    RELEASES,
    ChecksOf,
    Destination,
    checks_of,
    contents_of,
    seal_for,
)
from rlimages.distribution import Blob, Manifest
from rlimages.docker_engine import DockerEngine
from rlimages.event import Event
from rlimages.holdings import BUILD_LABEL
from rlimages.places import Opened
from rlimages.plan import Stage
from rlimages.profiles import Profile
from rlimages.project import Project
from rlimages.proof import Proof
from rlimages.publishing import PlaceResult
from rlimages.recall import Recalled
from rlimages.results import CellReport, DemandResult, Outcome, PublishResult, RunReport
from rlimages.runs import STATE
from rlimages.shell import Stop
from rlimages.shipment import Content, Fetch, Item, State, build_tag
from rlimages.standing import traffic


def release(
    report: RunReport,
    there: Destination,
    *,
    project: Project,
    engine: DockerEngine,
    folder: Path,
    environ: Mapping[str, str],
    stop: Stop,
    on_event: Callable[[Event], None],
    may_go_back: bool = False,
    recalled: Mapping[str, Recalled] = MappingProxyType({}),
) -> tuple[RunReport, tuple[PlaceResult, ...]]:
    """Release the cells that passed. To a target that has a name, one that did not pass holds back all.

    `folder` is the run's; `recalled` are the images, by cell, that the first place has already. The report comes back
    with what was published, and what became of each place. Raises `GateError`, before it sends anything, for an image
    that does not fit a profile of the target.
    """
    ready = [cell for cell in report.cells if cell.outcome is Outcome.PASSED and cell.image]
    missing = [cell.cell.id for cell in report.cells if cell not in ready]
    if not ready or (missing and there.name):
        reason = f"nothing was released to {there.name}: {', '.join(missing)} did not pass" if ready else ""
        return _held_back(report, reason), ()
    here = [cell for cell in ready if cell.cell.id not in recalled]
    state, began = project.root / STATE, monotonic()
    items = [
        ledger.item_of(cell.cell, cell.image.id, _build_of(cell, recalled, engine)) for cell in ready if cell.image
    ]
    herald = _Herald(on_event, len(there.places))
    fetch = packing.from_store(lambda image: lambda: engine.save(image), state)
    wanted = profiles_of(there, project)
    if wanted:  # what packing can't change is said before it, which takes minutes
        insist(here, recalled.values(), wanted, engine, {})
        own = [item for item in items if item.cell not in recalled]
        packed = packing.ahead(own, there.places, fetch, stop=stop, tell=herald.moved)
        insist(here, (), wanted, engine, packed)
    released, book = ledger.begin(state / RELEASES, there.label, items)
    for opened in there.places:
        herald.moved(opened.place.name, "")
    boms = {
        **contents_of(here, there, project, engine, folder),
        **_attested(recalled, there, folder, environ, stop),
    }
    told = publishing.deliver(
        released,
        book,
        there.places,
        _fetch(recalled, packing.everywhere(fetch), there),
        stop=stop,
        proofs={
            **dict(_proofs(here, checks_of(project), state)),
            **{name: one.proof for name, one in recalled.items()},
        },
        may_go_back=may_go_back,
        shared=promotion.shared(there.places[:1], items) if recalled else _nothing,
        seal=seal_for(there, boms, book, environ, stop, herald.moved),
        tell=herald.moved,
    )
    for place in told:
        herald.ended(place)
    if all(place.state is State.RELEASED for place in told):
        packing.clear(state)
    cells = tuple(_published(cell, told, ready) for cell in report.cells)
    notes = (*report.notes, *_notes(released.name, told))
    return replace(report, cells=cells, notes=notes, seconds=report.seconds + monotonic() - began), told


def profiles_of(there: Destination, project: Project) -> tuple[Profile, ...]:
    """What a target judges images by."""
    return tuple(profiles.load(project.root).find(name) for name in there.target.accept)


def insist(
    here: Sequence[CellReport],
    recalled: Iterable[Recalled],
    wanted: Sequence[Profile],
    engine: DockerEngine,
    packed: Mapping[str, Manifest],
) -> None:
    """Judge all images; `packed`: cell -> what will be sent. Raises `GateError`."""
    local = (
        verdict
        for cell in here
        if cell.image
        for verdict in inspection.gate(
            engine, cell.image.id, cell.cell.tags, wanted, called=cell.cell.id, manifest=packed.get(cell.cell.id)
        )
    )
    remote = (acceptance.judge(one.specimen, profile) for one in recalled for profile in wanted)
    acceptance.insist((*local, *remote))


def _build_of(cell: CellReport, recalled: Mapping[str, Recalled], engine: DockerEngine) -> str:
    """The build digest of an image: what its label says."""
    if cell.cell.id in recalled:
        return recalled[cell.cell.id].step.digest
    image = engine.inspect(cell.image.id) if cell.image else None
    return image.labels.get(BUILD_LABEL, "") if image else ""


def _fetch(
    recalled: Mapping[str, Recalled], from_store: Callable[[Opened], Fetch], there: Destination
) -> Callable[[Opened], Fetch]:
    """Images of the local store, but those that the first place has come from there."""
    tags = {name: build_tag(one.step.digest) for name, one in recalled.items()}
    from_place = promotion.from_registry(there.places[:1], tags)

    def of(opened: Opened) -> Fetch:
        near, far = from_store(opened), from_place(opened)

        def fetch(item: Item, wanted: Callable[[Blob], bool]) -> Content:
            return (far if item.cell in recalled else near)(item, wanted)

        return fetch

    return of


def _attested(
    recalled: Mapping[str, Recalled], there: Destination, folder: Path, environ: Mapping[str, str], stop: Stop
) -> Mapping[str, str]:
    """The bills of materials that our key attests of what is there already; none where nothing is signed."""
    if there.demands.key is None or not recalled:
        return {}
    images = {ledger.item_of(one.step.cell, one.manifest.image): one.manifest.digest for one in recalled.values()}
    return sealing.inherited(
        there.places[0], images, there.demands.key, folder=folder / "recalled", environ=environ, stop=stop
    )


def _nothing(_opened: Opened) -> Sequence[str]:
    """What images of the local store share with a registry."""
    return ()


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
    return replace(cell, publish=tuple(_each(cell.cell, places)), demands=tuple(_demands(cell.cell, places)))


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


def _demands(cell: Cell, places: Sequence[PlaceResult]) -> Iterator[DemandResult]:
    for place in places:
        for told in place.demands:
            if told.cell == cell.id:
                outcome = Outcome.PASSED if told.passed else Outcome.FAILED
                yield DemandResult(cell=cell, demand=told.demand, place=place.place, outcome=outcome, reason=told.said)


def _held_back(report: RunReport, reason: str) -> RunReport:
    return replace(report, notes=(*report.notes, reason)) if reason else report


def _notes(name: str, places: Sequence[PlaceResult]) -> Iterator[str]:
    for place in places:
        yield f"{place.place}: {place.state}; {traffic(place)}"
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
