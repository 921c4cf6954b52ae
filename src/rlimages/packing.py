"""Pack images of the local store for the places that they go to: each once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

from rlimages import archive
from rlimages.archive import Save, Shelf
from rlimages.distribution import Blob, Manifest
from rlimages.errors import Interrupted, RegistryError
from rlimages.places import Opened
from rlimages.shell import Stop
from rlimages.shipment import Content, Fetch, Item
from rlimages.wire import answers


def from_store(save: Callable[[str], Save], state: Path) -> Fetch:
    """Images of the local store; `save` gives how to save one, by its id."""
    blobs, shelf = state / "blobs", Shelf(state / "packed")
    locks: dict[str, Lock] = {}
    guard = Lock()

    def fetch(item: Item, wanted: Callable[[Blob], bool]) -> Content:
        with guard:
            lock = locks.setdefault(item.image, Lock())
        with lock:
            return archive.pack(item.image, save(item.image), blobs, shelf, wanted=wanted)

    return fetch


def everywhere(fetch: Fetch) -> Callable[[Opened], Fetch]:
    """The same images for each place."""
    return lambda _opened: fetch


def ahead(
    items: Sequence[Item],
    places: Sequence[Opened],
    fetch: Fetch,
    *,
    stop: Stop,
    tell: Callable[[str, str], None] = lambda _cell, _what: None,
) -> Mapping[str, Manifest]:
    """Pack all images, with the layers that any place lacks: cell -> the manifest that will be sent.

    Places are only asked, and one that does not answer lacks nothing: it gets its layers when it is served.
    """
    near = [opened for opened in places if answers(opened.place.host)]
    packed = {}
    try:
        for item in items:
            if stop.is_set():
                raise Interrupted("interrupted")
            tell(item.cell, "packing")
            packed[item.cell] = fetch(item, partial(is_lacking, near, item)).manifest
    finally:
        for opened in near:
            opened.registry.close()
    return packed


def clear(state: Path) -> None:
    """Forget packed layers; what they became is still known, so that only what a registry lacks is packed again."""
    for path in (state / "blobs").glob("*"):
        path.unlink(missing_ok=True)


def is_lacking(places: Sequence[Opened], item: Item, blob: Blob) -> bool:
    """Whether any of the places has to be sent a blob; one that refuses to say is asked again when it is served."""
    for opened in places:
        try:
            if not opened.registry.has_blob(opened.place.repository(item), blob.digest):
                return True
        except RegistryError:
            return True
    return False
