"""Publish the images that a run built and checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from types import MappingProxyType

from rlimages.checks.acceptance import apply_profile, judge_local_image, require_accepted
from rlimages.checks.pass_record import PassRecord, make_record, store_record
from rlimages.checks.profiles import Profile, load_profiles
from rlimages.checks.smoke import ChecksOf, checks_of
from rlimages.engine.docker import DockerEngine
from rlimages.errors import Interrupted
from rlimages.matrix.cell import Cell
from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.manifest import Blob, Manifest, PackedContent
from rlimages.plan.results import CellReport, Event, Outcome, PublishResult, RequirementResult, RunReport
from rlimages.plan.step import BuildPlan, RunOptions, Stage
from rlimages.project.project import Project
from rlimages.project.state import StateFolder
from rlimages.release.deliver import deliver, traffic_line
from rlimages.release.destination import ReleaseTarget, make_sboms, open_target, requirements_check
from rlimages.release.journal import start_release
from rlimages.release.model import (
    Fetch,
    RegistryConnection,
    RegistryResult,
    ReleaseItem,
    ReleaseState,
    build_tag,
    release_item,
)
from rlimages.release.packing import clear_packed, early_uploader, from_local_store, pack_all, same_everywhere
from rlimages.release.promote import from_registry, mount_sources
from rlimages.release.requirements import inherited_sboms
from rlimages.release.reuse import ReusedImage, find_reusable
from rlimages.system.process import Stop


def publish_report(
    report: RunReport,
    there: ReleaseTarget,
    *,
    project: Project,
    engine: DockerEngine,
    folder: Path,
    environ: Mapping[str, str],
    stop: Stop,
    on_event: Callable[[Event], None],
    may_go_back: bool = False,
    recalled: Mapping[str, ReusedImage] = MappingProxyType({}),
) -> tuple[RunReport, tuple[RegistryResult, ...]]:
    """Release the cells that passed. To a target that has a name, one that did not pass holds back all.

    `folder` is the run's; `recalled` are the images, by cell, that the first place has already. The report comes back
    with what was published, and what became of each place. Raises `GateError`, before it sends anything, for an image
    that does not fit a profile of the target.
    """
    ready = [cell for cell in report.cells if cell.outcome is Outcome.PASSED and cell.image]
    missing = [cell.cell.id for cell in report.cells if cell not in ready]
    if not ready or (missing and there.name):
        reason = f"nothing was released to {there.name}: {', '.join(missing)} did not pass" if ready else ""
        return _with_note(report, reason), ()
    here = [cell for cell in ready if cell.cell.id not in recalled]
    state, began = project.state, monotonic()
    items = [release_item(cell.cell, cell.image.id, _build_of(cell, recalled, engine)) for cell in ready if cell.image]
    herald = _EventReporter(on_event, len(there.places))
    fetch = from_local_store(lambda image: lambda: engine.save(image), state)
    wanted = target_profiles(there, project)
    if wanted:  # what packing can't change is said before it, which takes minutes
        require_accepted_images(here, recalled.values(), wanted, engine, {})
        own = [item for item in items if item.cell not in recalled]
        packed = pack_all(own, there.places, fetch, stop=stop, tell=herald.moved)
        require_accepted_images(here, (), wanted, engine, packed)
    released, book = start_release(state.releases, there.label, items)
    for opened in there.places:
        herald.moved(opened.place.name, "")
    boms = {
        **make_sboms(here, there, project, engine, folder),
        **_reused_sboms(recalled, there, folder, environ, stop),
    }
    told = deliver(
        released,
        book,
        there.places,
        _fetch_from(recalled, same_everywhere(fetch), there),
        stop=stop,
        proofs={
            **dict(_pass_records(here, checks_of(project), state)),
            **{name: one.proof for name, one in recalled.items()},
        },
        may_go_back=may_go_back,
        shared=mount_sources(there.places[:1], items) if recalled else _no_mount_sources,
        seal=requirements_check(there, boms, book, environ, stop, herald.moved),
        tell=herald.moved,
    )
    for place in told:
        herald.ended(place)
    if all(place.state is ReleaseState.RELEASED for place in told):
        clear_packed(state)
    cells = tuple(_published(cell, told, ready) for cell in report.cells)
    notes = (*report.notes, *_notes(released.name, told))
    return replace(report, cells=cells, notes=notes, seconds=report.seconds + monotonic() - began), told


def target_profiles(there: ReleaseTarget, project: Project) -> tuple[Profile, ...]:
    """What a target judges images by."""
    return tuple(load_profiles(project.root).find(name) for name in there.target.accept)


def require_accepted_images(
    here: Sequence[CellReport],
    recalled: Iterable[ReusedImage],
    wanted: Sequence[Profile],
    engine: DockerEngine,
    packed: Mapping[str, Manifest],
) -> None:
    """Judge all images; `packed`: cell -> what will be sent. Raises `GateError`."""
    local = (
        verdict
        for cell in here
        if cell.image
        for verdict in judge_local_image(
            engine, cell.image.id, cell.cell.tags, wanted, called=cell.cell.id, manifest=packed.get(cell.cell.id)
        )
    )
    remote = (apply_profile(one.specimen, profile) for one in recalled for profile in wanted)
    require_accepted((*local, *remote))


def _build_of(cell: CellReport, recalled: Mapping[str, ReusedImage], engine: DockerEngine) -> str:
    """The build digest of an image: what its label says."""
    if cell.cell.id in recalled:
        return recalled[cell.cell.id].step.digest
    image = engine.inspect(cell.image.id) if cell.image else None
    return image.labels.get(BUILD_LABEL, "") if image else ""


def _fetch_from(
    recalled: Mapping[str, ReusedImage], from_store: Callable[[RegistryConnection], Fetch], there: ReleaseTarget
) -> Callable[[RegistryConnection], Fetch]:
    """Images of the local store, but those that the first place has come from there."""
    tags = {name: build_tag(one.step.digest) for name, one in recalled.items()}
    from_place = from_registry(there.places[:1], tags)

    def of(opened: RegistryConnection) -> Fetch:
        near, far = from_store(opened), from_place(opened)

        def fetch(item: ReleaseItem, wanted: Callable[[Blob], bool]) -> PackedContent:
            return (far if item.cell in recalled else near)(item, wanted)

        return fetch

    return of


def _reused_sboms(
    recalled: Mapping[str, ReusedImage], there: ReleaseTarget, folder: Path, environ: Mapping[str, str], stop: Stop
) -> Mapping[str, str]:
    """The bills of materials that our key attests of what is there already; none where nothing is signed."""
    if there.demands.key is None or not recalled:
        return {}
    images = {release_item(one.step.cell, one.manifest.image): one.manifest.digest for one in recalled.values()}
    return inherited_sboms(
        there.places[0], images, there.demands.key, folder=folder / "recalled", environ=environ, stop=stop
    )


def _no_mount_sources(_opened: RegistryConnection) -> Sequence[str]:
    """What images of the local store share with a registry."""
    return ()


def _pass_records(
    ready: Sequence[CellReport], checks: ChecksOf, state: StateFolder
) -> Iterator[tuple[str, PassRecord]]:
    for cell in ready:
        programs = checks(cell.cell)
        made = make_record(cell.image.id, programs, cell.smoke) if cell.image else None
        if made is not None:
            store_record(made, state.pass_records)
            yield cell.cell.id, made


def _published(cell: CellReport, places: Sequence[RegistryResult], ready: Sequence[CellReport]) -> CellReport:
    if cell not in ready:
        return cell
    return replace(
        cell, publish=tuple(_publish_results(cell.cell, places)), demands=tuple(_requirement_results(cell.cell, places))
    )


def _publish_results(cell: Cell, places: Sequence[RegistryResult]) -> Iterator[PublishResult]:
    for place in places:
        passed = place.state is ReleaseState.RELEASED
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


def _requirement_results(cell: Cell, places: Sequence[RegistryResult]) -> Iterator[RequirementResult]:
    for place in places:
        for told in place.demands:
            if told.cell == cell.id:
                outcome = Outcome.PASSED if told.passed else Outcome.FAILED
                yield RequirementResult(
                    cell=cell, demand=told.demand, place=place.place, outcome=outcome, reason=told.said
                )


def _with_note(report: RunReport, reason: str) -> RunReport:
    return replace(report, notes=(*report.notes, reason)) if reason else report


def _notes(name: str, places: Sequence[RegistryResult]) -> Iterator[str]:
    for place in places:
        yield f"{place.place}: {place.state}; {traffic_line(place)}"
    if any(place.state is not ReleaseState.RELEASED for place in places):
        yield f"go on with `rlimages publish --resume {name}`"
    if any(place.state is ReleaseState.BETWEEN for place in places):
        yield f"or go back with `rlimages publish --rollback {name}`"


class _EventReporter:
    """Tells of places as the pipeline tells of cells."""

    def __init__(self, on_event: Callable[[Event], None], total: int) -> None:
        self._on_event = on_event
        self._total = total
        self._done = 0
        self._began = monotonic()
        self._lock = Lock()

    def moved(self, place: str, what: str) -> None:
        self._tell(place, None, what)

    def ended(self, result: RegistryResult) -> None:
        self._done += 1
        released = result.state is ReleaseState.RELEASED
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


@dataclass(kw_only=True)
class Publication:
    """Where the images of one run go."""

    project: Project
    there: ReleaseTarget
    wishes: RunOptions
    environ: Mapping[str, str]
    stop: Stop
    recalled: Mapping[str, ReusedImage] = field(default_factory=dict)
    """By cell, what the first place has already."""

    def __enter__(self) -> "Publication":
        """Itself; for those who only ask."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up. A release does so by itself."""
        for opened in self.there.places:
            opened.registry.close()

    def take_over(self, todo: BuildPlan) -> BuildPlan:
        """The same plan, with nothing built that the first place has, checked."""
        if self.wishes.fresh:
            return todo
        state = self.project.state
        todo, self.recalled = find_reusable(todo, self.there.places[0], checks_of(self.project), state.pass_records)
        return todo

    @property
    def elsewhere(self) -> Mapping[str, CellReport]:
        """What need not be done here, by cell."""
        return {name: one.report for name, one in self.recalled.items()}

    def forwarder(self, engine: DockerEngine) -> Callable[[CellReport], None]:
        """Sends the layers of an image as soon as it passed and the target's profiles have nothing against it."""
        wanted = target_profiles(self.there, self.project)

        def pieces(image: str) -> Iterator[bytes]:
            for piece in engine.save(image):
                if self.stop.is_set():
                    raise Interrupted("interrupted")
                yield piece

        def judge(cell: CellReport, manifest: Manifest) -> None:
            require_accepted_images([cell], (), wanted, engine, {cell.cell.id: manifest})

        fetch = from_local_store(lambda image: lambda: pieces(image), self.project.state)
        return early_uploader(fetch, self.there.places, judge=judge, stop=self.stop)

    def release(
        self, report: RunReport, engine: DockerEngine, folder: Path, on_event: Callable[[Event], None]
    ) -> RunReport:
        """Release what passed. Raises what stops a release before its first move."""
        report, _ = publish_report(
            report,
            self.there,
            project=self.project,
            engine=engine,
            folder=folder,
            environ=self.environ,
            stop=self.stop,
            on_event=on_event,
            may_go_back=self.wishes.allow_older,
            recalled=self.recalled,
        )
        return report


def open_publication(
    project: Project, wishes: RunOptions, cells: tuple[Cell, ...], *, environ: Mapping[str, str], stop: Stop
) -> Publication:
    """Look at where it goes, before anything is done. Raises what `destination.destination` raises."""
    there = open_target(project, cells, to=wishes.to, target=wishes.target, environ=environ)
    return Publication(project=project, there=there, wishes=wishes, environ=environ, stop=stop)
