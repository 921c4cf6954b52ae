"""Promote images from one target to another by digest; resume a release, or roll it back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages.checks.acceptance import apply_profile, require_accepted
from rlimages.checks.inspection import read_remote_facts
from rlimages.checks.pass_record import PassRecord, find_record, newest_record, suite_digest
from rlimages.checks.profiles import Profile, load_profiles
from rlimages.checks.smoke import checks_of
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import BuiltImage
from rlimages.errors import RegistryError, UsageError
from rlimages.matrix.cell import Cell
from rlimages.oci.manifest import Blob, Manifest, PackedContent, Reference
from rlimages.plan.results import CellReport
from rlimages.project.project import Project
from rlimages.registry.client import RegistryClient
from rlimages.release.deliver import deliver, roll_back
from rlimages.release.destination import ReleaseTarget, make_sboms, open_target, requirements_check
from rlimages.release.journal import Journal, Release, reopen_release, start_release
from rlimages.release.model import Fetch, MountSources, RegistryConnection, RegistryResult, ReleaseItem, ReleaseState
from rlimages.release.packing import clear_packed, from_local_store, same_everywhere
from rlimages.release.requirements import inherited_sboms
from rlimages.release.targets import TARGETS_FILE, connect, load_targets
from rlimages.system.process import Stop


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An image of the source that may be promoted."""

    item: ReleaseItem
    proof: PassRecord


@dataclass(frozen=True, kw_only=True)
class RegistryContent:
    """An image in a registry, as the content of a release."""

    manifest: Manifest
    registry: RegistryClient
    repository: str

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """A blob, piece by piece; who stores it checks its digest."""
        return self.registry.read_blob(self.repository, blob.digest)


def candidates(
    cells: Sequence[Cell], source: RegistryConnection, suite: Callable[[Cell], Sequence[Path]], proofs: Path
) -> tuple[Candidate, ...]:
    """What the source holds under the cells' own tags. Raises `RegistryError` naming all that can't be promoted.

    That is what is not there, and what has no recorded PASS of its whole suite as it is now: an image that was built
    anew since, or one check that was changed. `suite` gives the programs that check a cell, `proofs` is where this
    machine's records are.
    """
    found, problems = [], []
    for cell in cells:
        item = ReleaseItem(cell=cell.id, repository=cell.repository, image="", tags=cell.tags)
        repository = source.place.repository(item)
        name = f"{source.place.host}/{repository}:{cell.tag}"
        manifest = source.registry.manifest(repository, cell.tag)
        if manifest is None:
            problems.append(f"{name} is not there; publish {cell.id} to {source.place.name} first")
            continue
        wanted = suite_digest(suite(cell))
        record = find_record(manifest.image, wanted, registry=source.registry, repository=repository, folder=proofs)
        if record is None:
            problems.append(
                f"{name} ({manifest.digest}) has no recorded PASS of the checks as they are now; "
                f"run `rlimages publish --select {cell.id}` to {source.place.name} again"
            )
            continue
        named = ReleaseItem(cell=cell.id, repository=cell.repository, image=manifest.image, tags=cell.tags)
        found.append(Candidate(item=named, proof=record))
    if problems:
        raise RegistryError("nothing is promoted:\n" + "\n".join(f"  {problem}" for problem in problems))
    return tuple(found)


def nearest_source(sources: Sequence[RegistryConnection], to: RegistryConnection) -> RegistryConnection:
    """The source to copy from: the one of the same registry, else of the same region, else the first."""
    region = to.place.name.rpartition("/")[2]
    same_host = [source for source in sources if source.place.host == to.place.host]
    same_region = [source for source in sources if source.place.name.rpartition("/")[2] == region]
    return [*same_host, *same_region, *sources][0]


def from_registry(
    sources: Sequence[RegistryConnection], tags: Mapping[str, str]
) -> Callable[[RegistryConnection], Fetch]:
    """Images of another target; `tags`: cell -> the tag that names its image there."""

    def of(opened: RegistryConnection) -> Fetch:
        source = nearest_source(sources, opened)

        def fetch(item: ReleaseItem, _wanted: Callable[[Blob], bool]) -> PackedContent:
            repository = source.place.repository(item)
            manifest = source.registry.manifest(repository, tags[item.cell])
            if manifest is None or manifest.image != item.image:
                held = manifest.image if manifest else "nothing"
                raise RegistryError(
                    f"{source.place.host}/{repository}:{tags[item.cell]} holds {held} now; chosen was {item.image}"
                )
            return RegistryContent(manifest=manifest, registry=source.registry, repository=repository)

        return fetch

    return of


def mount_sources(
    sources: Sequence[RegistryConnection], items: Sequence[ReleaseItem]
) -> Callable[[RegistryConnection], Sequence[str]]:
    """The source's repositories, where they are in the same registry: layers are mounted and not sent."""

    def of(opened: RegistryConnection) -> Sequence[str]:
        source = nearest_source(sources, opened)
        if source.place.host != opened.place.host:
            return ()
        return tuple(dict.fromkeys(source.place.repository(item) for item in items))

    return of


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
) -> tuple[str, tuple[RegistryResult, ...]]:
    """Promote cells from target `source` (by default what `promote_from` says) to target `name`; the release's name.

    Raises `RegistryError` where an image is missing or has no recorded PASS, and `GateError`, before anything is sent,
    for one that does not fit a profile that only `name` demands.
    """
    known = load_targets(project)
    source = source or known.find(name).promote_from or ""
    if not source:
        raise UsageError(
            f"{TARGETS_FILE} does not say where '{name}' is promoted from; add `promote_from`, or give --from"
        )
    there = open_target(project, cells, target=name, environ=environ)
    origin = connect(source, known.find(source), cells, environ=environ)[0]
    try:
        chosen = candidates(cells, origin, checks_of(project), project.state.pass_records)
        more = [profile for profile in there.target.accept if profile not in known.find(source).accept]
        _require_target_profiles(chosen, origin, [load_profiles(project.root).find(one) for one in more], stop, on_note)
    finally:
        origin.registry.close()
    released, book = start_release(project.state.releases, there.label, [one.item for one in chosen], source)
    records = {one.item.cell: one.proof for one in chosen}
    return released.name, _deliver(project, released, book, there, records, environ, stop, may_go_back, on_note)


def _require_target_profiles(
    chosen: Sequence[Candidate],
    origin: RegistryConnection,
    wanted: Sequence[Profile],
    stop: Stop,
    on_note: Callable[[str], None],
) -> None:
    """What the source asked of its images was asked there; for what it did not ask, their layers are read."""
    verdicts = []
    for item in (one.item for one in chosen if wanted):
        on_note(f"{item.cell}: judged by what {origin.place.name} does not ask for")
        place = Reference(host=origin.place.host, repository=origin.place.repository(item), version=item.tags[0])
        found = read_remote_facts(origin.registry, place, wanted, stop=stop)
        specimen = replace(found, reference=item.cell, tags=item.tags)
        verdicts += [apply_profile(specimen, profile) for profile in wanted]
    require_accepted(verdicts)


def resume_or_roll_back(
    project: Project,
    name: str,
    *,
    back: bool,
    may_go_back: bool,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> tuple[RegistryResult, ...]:
    """Resume a release by its name, or roll it back. Raises `SelectionError` where there is none."""
    state = project.state
    released, book = reopen_release(state.releases, name)
    cells = [cell for cell in project.cells if cell.id in released.cells]
    named = (project.root / TARGETS_FILE).exists() and released.target in load_targets(project).by_name
    words = {"target": released.target} if named else {"to": released.target}
    there = open_target(project, cells, **words, environ=environ)
    if back:

        def tell(place: str, what: str) -> None:
            on_note(f"{place}: {what}")

        return roll_back(released, book, there.places, stop=stop, tell=tell)
    kept = {item.cell: newest_record(item.image, state.pass_records) for item in released.items}
    records = {cell: record for cell, record in kept.items() if record}
    return _deliver(project, released, book, there, records, environ, stop, may_go_back, on_note)


def _deliver(
    project: Project,
    released: Release,
    book: Journal,
    there: ReleaseTarget,
    records: Mapping[str, PassRecord],
    environ: Mapping[str, str],
    stop: Stop,
    may_go_back: bool,
    on_note: Callable[[str], None],
) -> tuple[RegistryResult, ...]:
    """Deliver from where the release takes its images: the local store, or another target."""
    state = project.state

    def tell(place: str, what: str) -> None:
        on_note(f"{place}: {what}")

    with ExitStack() as stack:
        near: MountSources = _no_mount_sources
        engine = DockerEngine(run=f"release-{released.name}", stop=stop)
        stack.callback(engine.close)
        if released.source:
            cells = [cell for cell in project.cells if cell.id in released.cells]
            origin = open_target(project, cells, target=released.source, environ=environ)
            for opened in origin.places:
                stack.callback(opened.registry.close)
            fetch = from_registry(origin.places, {item.cell: item.tags[0] for item in released.items})
            near = mount_sources(origin.places, released.items)
            boms = _source_sboms(origin, there, released, book, environ, stop)
        else:
            fetch = same_everywhere(from_local_store(lambda image: lambda: engine.save(image), state))
            ready = [_report_of(cell, released) for cell in project.cells if cell.id in released.cells]
            boms = make_sboms(ready, there, project, engine, book.path.parent)
        told = deliver(
            released,
            book,
            there.places,
            fetch,
            stop=stop,
            proofs=records,
            may_go_back=may_go_back,
            shared=near,
            seal=requirements_check(there, boms, book, environ, stop, tell),
            tell=tell,
        )
    if all(place.state is ReleaseState.RELEASED for place in told):
        clear_packed(state)
    return told


def _no_mount_sources(_opened: RegistryConnection) -> Sequence[str]:
    """What images of the local store share with a registry."""
    return ()


def _report_of(cell: Cell, released: Release) -> CellReport:
    """A cell of a release, whose image is in the local store by its id."""
    image = next(item.image for item in released.items if item.cell == cell.id)
    return CellReport(cell=cell, image=BuiltImage(id=image, size=0))


def _source_sboms(
    origin: ReleaseTarget,
    there: ReleaseTarget,
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
    return inherited_sboms(
        source, images, origin.demands.key, folder=book.path.parent / "source", environ=environ, stop=stop
    )
