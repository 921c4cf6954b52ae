"""Publish images to a target: all places at once, each a transaction of its own, with one journal to go on from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from time import monotonic
from types import MappingProxyType

from rlimages import proof
from rlimages.distribution import Manifest
from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.journal import Journal
from rlimages.ledger import Release
from rlimages.places import Opened
from rlimages.proof import Proof
from rlimages.release import Delivery
from rlimages.shell import Stop
from rlimages.shipment import Fetch, Item, State, build_tag
from rlimages.wire import answers, is_loopback

AT_ONCE = 4
"""Places that are served at once."""

Tell = Callable[[str, str], None]
"""Hears of each move: the place, and what is done there."""
Seal = Callable[[Opened, Mapping[Item, str]], None]
"""Does what a target asks of its images, which are there under these digests."""


DEMANDED = "demanded"
"""Event of a journal: what a place demanded of an image, and what came of it, in the words of `Demand`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a place demanded of one image, and what came of it."""

    cell: str
    demand: str
    """`scan`, `signature` or `contents`."""
    passed: bool
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceResult:
    """How one place stands at the end of a release."""

    place: str
    state: State
    reason: str
    """Why it is not released, in one sentence; empty when it is."""
    digests: Mapping[str, str]
    """Cell -> digest of its manifest here; of those that came that far."""
    references: Mapping[str, tuple[str, ...]]
    """Cell -> the full names of its image here."""
    moved: Mapping[str, tuple[str, ...]]
    """Cell -> the tags that this release had to move."""
    demands: tuple[Demand, ...]
    """What came of what the place demanded of the images, the last time."""
    calls: Mapping[str, int]
    """ECR's name of a call -> how often."""
    uploads: int
    """Blobs that had to travel."""
    bytes: int
    """Of these."""
    seconds: float


def deliver(
    release: Release,
    book: Journal,
    places: Sequence[Opened],
    fetch: Callable[[Opened], Fetch],
    *,
    stop: Stop,
    proofs: Mapping[str, Proof] = MappingProxyType({}),
    may_go_back: bool = False,
    shared: Callable[[Opened], Sequence[str]] = lambda _opened: (),
    seal: Seal = lambda _opened, _images: None,
    tell: Tell = lambda _place, _what: None,
) -> tuple[PlaceResult, ...]:
    """Take a release as far as it goes in each place. A place that fails doesn't stop the others.

    `fetch` gives the images for a place, `shared` the other repositories there that may have their layers. `proofs`, by
    cell, are stored beside them. `seal` is called when all images of a place are there, before their tags move:
    what it raises leaves them where they are.
    """

    def one(opened: Opened) -> PlaceResult:
        def work(delivery: Delivery) -> None:
            for repository in dict.fromkeys(opened.place.repository(item) for item in release.items):
                if opened.ensure(repository):
                    tell(opened.place.name, f"made the repository {repository}")
            delivery.bring(fetch(opened))
            for item in release.items:
                if item.cell in proofs:
                    repository = opened.place.repository(item)
                    proof.attach(proofs[item.cell], delivery.staged(item), opened.registry, repository)
            seal(opened, {item: delivery.staged(item).digest for item in release.items})
            delivery.move()
            for item in release.items:
                _remember(opened, item, delivery.staged(item))

        near = shared(opened)
        return _serve(release, book, opened, work, stop=stop, may_go_back=may_go_back, shared=near, tell=tell)

    return _everywhere(places, one)


def _remember(opened: Opened, item: Item, manifest: Manifest) -> None:
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
    places: Sequence[Opened],
    *,
    stop: Stop,
    tell: Tell = lambda _place, _what: None,
) -> tuple[PlaceResult, ...]:
    """Give every tag that a release moved what it held before, in each place."""

    def one(opened: Opened) -> PlaceResult:
        return _serve(release, book, opened, Delivery.roll_back, stop=stop, may_go_back=True, shared=(), tell=tell)

    return _everywhere(places, one)


def _everywhere(places: Sequence[Opened], one: Callable[[Opened], PlaceResult]) -> tuple[PlaceResult, ...]:
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="place") as pool:
        return tuple(pool.map(one, places))


def _serve(
    release: Release,
    book: Journal,
    opened: Opened,
    work: Callable[[Delivery], None],
    *,
    stop: Stop,
    may_go_back: bool,
    shared: Sequence[str],
    tell: Tell,
) -> PlaceResult:
    began, place = monotonic(), opened.place
    with ExitStack() as stack:
        stack.callback(opened.registry.close)
        delivery = Delivery(
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
            if delivery.state is not State.RELEASED or work is Delivery.roll_back:
                _insist_on_answer(place.host)
                work(delivery)
        except Interrupted:
            reason = "interrupted"
        except FactoryError as error:
            reason = str(error)
        if reason:
            book.write("failed", place=place.name, reason=reason)
        result = _result(release, book, opened, delivery.state, reason)
        return replace(result, seconds=monotonic() - began)


def _insist_on_answer(host: str) -> None:
    """A registry may be busy for long, but where none answers at all nobody should wait for it."""
    if not answers(host):
        hint = "is it running?" if is_loopback(host) else "check the name, the network and the proxy"
        raise RegistryError(f"cannot reach the registry {host}; {hint}")


def _result(release: Release, book: Journal, opened: Opened, state: State, reason: str) -> PlaceResult:
    place = opened.place
    staged = {entry["cell"]: entry["digest"] for entry in book.told("staged", place=place.name)}
    return PlaceResult(
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
        demands=tuple(_demands(book, place.name)),
        calls=opened.meter.calls,
        uploads=sum(opened.meter.uploads.values()),
        bytes=opened.meter.bytes,
        seconds=0.0,
    )


def _demands(book: Journal, place: str) -> Iterator[Demand]:
    latest = {(entry["cell"], entry["demand"]): entry for entry in book.told(DEMANDED, place=place)}
    for (cell, demand), entry in latest.items():
        yield Demand(cell=cell, demand=demand, passed=entry["passed"], said=entry["said"])
