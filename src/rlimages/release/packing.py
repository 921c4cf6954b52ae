"""Pack images for upload, upload layers early, and estimate the size of an upload."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock

from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.matrix.cell import Cell
from rlimages.oci.archive import PackedCache, SaveImage, pack_image
from rlimages.oci.layers import StoredImage, explain_layers
from rlimages.oci.manifest import Blob, Manifest, PackedContent
from rlimages.plan.results import CellReport
from rlimages.project.state import StateFolder
from rlimages.registry.client import upload_image
from rlimages.registry.http import is_reachable
from rlimages.release.model import Fetch, RegistryConnection, ReleaseItem, release_item
from rlimages.system.process import Stop


def from_local_store(save: Callable[[str], SaveImage], state: StateFolder) -> Fetch:
    """Images of the local store; `save` gives how to save one, by its id."""
    blobs, shelf = state.blobs, PackedCache(state.packed)
    locks: dict[str, Lock] = {}
    guard = Lock()

    def fetch(item: ReleaseItem, wanted: Callable[[Blob], bool]) -> PackedContent:
        with guard:
            lock = locks.setdefault(item.image, Lock())
        with lock:
            return pack_image(item.image, save(item.image), blobs, shelf, wanted=wanted)

    return fetch


def same_everywhere(fetch: Fetch) -> Callable[[RegistryConnection], Fetch]:
    """The same images for each place."""
    return lambda _opened: fetch


def pack_all(
    items: Sequence[ReleaseItem],
    places: Sequence[RegistryConnection],
    fetch: Fetch,
    *,
    stop: Stop,
    tell: Callable[[str, str], None] = lambda _cell, _what: None,
) -> Mapping[str, Manifest]:
    """Pack all images, with the layers that any place lacks: cell -> the manifest that will be sent.

    Places are only asked, and one that does not answer lacks nothing: it gets its layers when it is served.
    """
    near = [opened for opened in places if is_reachable(opened.place.host)]
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


def clear_packed(state: StateFolder) -> None:
    """Forget packed layers; what they became is still known, so that only what a registry lacks is packed again."""
    for path in state.blobs.glob("*"):
        path.unlink(missing_ok=True)


def is_lacking(places: Sequence[RegistryConnection], item: ReleaseItem, blob: Blob) -> bool:
    """Whether any of the places has to be sent a blob; one that refuses to say is asked again when it is served."""
    for opened in places:
        try:
            if not opened.registry.has_blob(opened.place.repository(item), blob.digest):
                return True
        except RegistryError:
            return True
    return False


def early_uploader(
    fetch: Fetch,
    places: Sequence[RegistryConnection],
    *,
    judge: Callable[[CellReport, Manifest], None],
    stop: Stop,
) -> Callable[[CellReport], None]:
    """What packs a cell's image and sends the layers that places lack.

    `fetch` packs; the release finds what it packed. `judge` raises `FactoryError` for an image not wanted there.
    """

    def forward(cell: CellReport) -> None:
        if cell.image is None or stop.is_set():
            return
        item = release_item(cell.cell, cell.image.id)
        with suppress(FactoryError):
            near = [opened for opened in places if is_reachable(opened.place.host)]
            content = fetch(item, partial(is_lacking, near, item))
            judge(cell, content.manifest)
            for opened in near:
                with suppress(FactoryError):  # a repository that is still to be made, or a place that is busy
                    upload_image(content, opened.place.repository(item), opened.registry, stop=stop)
        for opened in places:
            opened.registry.close()

    return forward


def upload_size(
    images: Iterable[tuple[Cell, StoredImage]], places: Sequence[RegistryConnection], shelf: PackedCache
) -> int:
    """Bytes of the layers that places lack, in each place once, whichever of the repositories has it.

    A layer that was never packed here has no name yet by which a registry could know it: it counts unpacked, which is
    more than will travel. So does, packed, what a place does not say.
    """
    sizes: dict[str, int] = {}
    cells: dict[str, list[Cell]] = {}
    for cell, image in images:
        for layer in explain_layers(image, {}).strata:
            sizes[layer.digest] = layer.size
            cells.setdefault(layer.digest, []).append(cell)
    packed = {digest: blob for digest in sizes if (blob := shelf.layer(digest)) is not None}
    return sum(_missing_bytes(opened, sizes, packed, cells) for opened in places)


def _missing_bytes(
    opened: RegistryConnection,
    sizes: Mapping[str, int],
    packed: Mapping[str, Blob],
    cells: Mapping[str, Sequence[Cell]],
) -> int:
    there = is_reachable(opened.place.host)

    def has(digest: str) -> bool:
        names = dict.fromkeys(opened.place.repository(release_item(cell, "")) for cell in cells[digest])
        try:
            return there and any(opened.registry.has_blob(name, packed[digest].digest) for name in names)
        except RegistryError:
            return False

    unknown = sum(size for digest, size in sizes.items() if digest not in packed)
    return unknown + sum(blob.size for digest, blob in packed.items() if not has(digest))
