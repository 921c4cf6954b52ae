"""Release images to all registries of a target at once, one transaction each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from time import monotonic
from types import MappingProxyType

from rlimages.checks.pass_record import PassRecord, attach_record
from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.oci.manifest import Manifest
from rlimages.registry.http import QUOTAS, is_loopback, is_reachable
from rlimages.release.journal import Journal, Release
from rlimages.release.model import (
    REQUIREMENT_EVENT,
    CheckRequirements,
    Fetch,
    RegistryConnection,
    RegistryResult,
    ReleaseItem,
    ReleaseState,
    ReportProgress,
    RequirementCheck,
    build_tag,
)
from rlimages.release.transaction import ReleaseTransaction
from rlimages.system.process import Stop
from rlimages.system.units import format_duration, format_size

PARALLEL_REGISTRIES = 4
"""Places that are served at once."""


def deliver(
    release: Release,
    book: Journal,
    places: Sequence[RegistryConnection],
    fetch: Callable[[RegistryConnection], Fetch],
    *,
    stop: Stop,
    proofs: Mapping[str, PassRecord] = MappingProxyType({}),
    may_go_back: bool = False,
    shared: Callable[[RegistryConnection], Sequence[str]] = lambda _opened: (),
    seal: CheckRequirements = lambda _opened, _images: None,
    tell: ReportProgress = lambda _place, _what: None,
) -> tuple[RegistryResult, ...]:
    """Take a release as far as it goes in each place. A place that fails doesn't stop the others.

    `fetch` gives the images for a place, `shared` the other repositories there that may have their layers. `proofs`, by
    cell, are stored beside them. `seal` is called when all images of a place are there, before their tags move:
    what it raises leaves them where they are.
    """

    def one(opened: RegistryConnection) -> RegistryResult:
        def work(delivery: ReleaseTransaction) -> None:
            for repository in dict.fromkeys(opened.place.repository(item) for item in release.items):
                if opened.ensure(repository):
                    tell(opened.place.name, f"made the repository {repository}")
            delivery.bring(fetch(opened))
            for item in release.items:
                if item.cell in proofs:
                    repository = opened.place.repository(item)
                    attach_record(proofs[item.cell], delivery.staged(item), opened.registry, repository)
            seal(opened, {item: delivery.staged(item).digest for item in release.items})
            delivery.move()
            for item in release.items:
                _tag_by_build(opened, item, delivery.staged(item))

        near = shared(opened)
        return _run_transaction(release, book, opened, work, stop=stop, may_go_back=may_go_back, shared=near, tell=tell)

    return _in_parallel(places, one)


def _tag_by_build(opened: RegistryConnection, item: ReleaseItem, manifest: Manifest) -> None:
    """Let an image be found by what it was made from. Where that fails the next run builds it again, and no more."""
    repository, tag = opened.place.repository(item), build_tag(item.build)
    if not item.build:
        return
    with suppress(RegistryError):
        held = opened.registry.manifest(repository, tag)
        if held is None or held.digest != manifest.digest:
            opened.registry.put_manifest(repository, tag, manifest)


def roll_back(
    release: Release,
    book: Journal,
    places: Sequence[RegistryConnection],
    *,
    stop: Stop,
    tell: ReportProgress = lambda _place, _what: None,
) -> tuple[RegistryResult, ...]:
    """Give every tag that a release moved what it held before, in each place."""

    def one(opened: RegistryConnection) -> RegistryResult:
        return _run_transaction(
            release, book, opened, ReleaseTransaction.roll_back, stop=stop, may_go_back=True, shared=(), tell=tell
        )

    return _in_parallel(places, one)


def _in_parallel(
    places: Sequence[RegistryConnection], one: Callable[[RegistryConnection], RegistryResult]
) -> tuple[RegistryResult, ...]:
    with ThreadPoolExecutor(max_workers=PARALLEL_REGISTRIES, thread_name_prefix="place") as pool:
        return tuple(pool.map(one, places))


def _run_transaction(
    release: Release,
    book: Journal,
    opened: RegistryConnection,
    work: Callable[[ReleaseTransaction], None],
    *,
    stop: Stop,
    may_go_back: bool,
    shared: Sequence[str],
    tell: ReportProgress,
) -> RegistryResult:
    began, place = monotonic(), opened.place
    with ExitStack() as stack:
        stack.callback(opened.registry.close)
        delivery = ReleaseTransaction(
            place,
            release.items,
            opened.registry,
            book,
            stop=stop,
            untag=opened.untag,
            shared=shared,
            may_go_back=may_go_back,
            exact=bool(release.source),
            on_progress=lambda what: tell(place.name, what),
        )
        reason = ""
        try:
            if delivery.state is not ReleaseState.RELEASED or work is ReleaseTransaction.roll_back:
                _require_reachable(place.host)
                work(delivery)
        except Interrupted:
            reason = "interrupted"
        except FactoryError as error:
            reason = str(error)
        if reason:
            book.write("failed", place=place.name, reason=reason)
        result = _registry_result(release, book, opened, delivery.state, reason)
        return replace(result, seconds=monotonic() - began)


def _require_reachable(host: str) -> None:
    """A registry may be busy for long, but where none answers at all nobody should wait for it."""
    if not is_reachable(host):
        hint = "is it running?" if is_loopback(host) else "check the name, the network and the proxy"
        raise RegistryError(f"cannot reach the registry {host}; {hint}")


def _registry_result(
    release: Release, book: Journal, opened: RegistryConnection, state: ReleaseState, reason: str
) -> RegistryResult:
    place = opened.place
    staged = {entry["cell"]: entry["digest"] for entry in book.told("staged", place=place.name)}
    return RegistryResult(
        place=place.name,
        state=state,
        reason=reason,
        digests=staged,
        references={
            item.cell: tuple(f"{place.host}/{place.repository(item)}:{tag}" for tag in item.tags)
            for item in release.items
        },
        moved={
            item.cell: tuple(entry["tag"] for entry in book.told("moving", place=place.name, cell=item.cell))
            for item in release.items
        },
        demands=tuple(_requirement_checks(book, place.name)),
        calls=opened.meter.calls,
        uploads=sum(opened.meter.uploads.values()),
        bytes=opened.meter.bytes,
        seconds=0.0,
    )


def _requirement_checks(book: Journal, place: str) -> Iterator[RequirementCheck]:
    latest = {(entry["cell"], entry["demand"]): entry for entry in book.told(REQUIREMENT_EVENT, place=place)}
    for (cell, demand), entry in latest.items():
        yield RequirementCheck(cell=cell, demand=demand, passed=entry["passed"], said=entry["said"])


def release_lines(places: Sequence[RegistryResult]) -> Iterator[str]:
    """What became of each place, for people."""
    for place in places:
        yield f"{place.place}: {place.state}" + (f": {place.reason}" if place.reason else "")
        yield f"  {traffic_line(place)}"
        for told in place.demands:
            yield f"  {told.cell}: {told.demand} {'passed' if told.passed else 'FAILED'}: {told.said}"


def traffic_line(place: RegistryResult) -> str:
    """What it took, with ECR's names of the calls and what it allows of each in a second."""
    calls = ", ".join(
        f"{count} {call}" + (f" ({QUOTAS[call]}/s allowed)" if call in QUOTAS else "")
        for call, count in place.calls.items()
    )
    return f"{place.uploads} blobs ({format_size(place.bytes)}) sent in {format_duration(place.seconds)}; {calls}"


def release_exit_code(places: Sequence[RegistryResult]) -> int:
    """0 when every place is as was wanted; 130 when interrupted; else that of a registry that refused."""
    if all(not place.reason for place in places):
        return 0
    interrupted = any(place.reason == Interrupted.__name__.lower() for place in places)
    return Interrupted.exit_code if interrupted else RegistryError.exit_code
