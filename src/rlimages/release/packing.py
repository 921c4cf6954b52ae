"""Pack images and upload their layers ahead of a release, and estimate the size of an upload.

No tag and no manifest is written here, so nobody who pulls images can see a difference.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from rlimages.errors import FactoryError, Interrupted, RegistryError
from rlimages.matrix.cell import Cell
from rlimages.oci.history import StoredImage, explain_layers
from rlimages.oci.manifest import Blob, Manifest
from rlimages.oci.packing import PackedCache
from rlimages.plan.results import CellReport
from rlimages.project.state import StateFolder
from rlimages.registry.client import upload_image
from rlimages.registry.http import is_reachable
from rlimages.release.model import RegistryConnection, ReleaseItem, ReportProgress, release_item
from rlimages.release.sources import LocalStoreSource
from rlimages.system.process import Stop


def pack_all(
    items: Sequence[ReleaseItem],
    connections: Sequence[RegistryConnection],
    source: LocalStoreSource,
    *,
    stop: Stop,
    on_progress: ReportProgress = lambda _cell, _line: None,
) -> Mapping[str, Manifest]:
    """Pack each image of `items` from the local store. Return cell id -> the manifest that will be uploaded.

    Layers are compressed into the folder of `source` if at least one registry of `connections` lacks them. A registry
    that cannot be reached is left out; the release packs its missing layers later. Nothing is sent. `on_progress` gets
    the cell's id and the step. Raises `Interrupted` if `stop` is set, and `ToolError` if an image cannot be packed.
    """
    reachable = [connection for connection in connections if is_reachable(connection.registry.host)]
    packed = {}
    try:
        for item in items:
            if stop.is_set():
                raise Interrupted("interrupted")
            on_progress(item.cell, "packing")
            packed[item.cell] = source.pack(item, partial(is_lacking, reachable, item)).manifest
    finally:
        for connection in reachable:
            connection.client.close()
    return packed


def is_lacking(connections: Sequence[RegistryConnection], item: ReleaseItem, blob: Blob) -> bool:
    """Return whether at least one registry lacks `blob` in the repository of `item`.

    A registry that answers with an error counts as lacking it. Without `connections`, the result is False.
    """
    for connection in connections:
        try:
            if not connection.client.has_blob(connection.registry.repository(item), blob.digest):
                return True
        except RegistryError:
            return True
    return False


def clear_packed(state: StateFolder) -> None:
    """Delete the compressed layers in `state.blobs`, which are not needed after a release.

    The digests in `state.packed` are kept, so that no layer that a registry already has is compressed again.
    """
    for path in state.blobs.glob("*"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class EarlyUploader:
    """The uploader of layers of images that passed their checks, while other images are still built."""

    source: LocalStoreSource
    """Packs the images. The release finds the packed layers in the state folder."""
    connections: Sequence[RegistryConnection]
    require_accepted: Callable[[CellReport, Manifest], None]
    """Raises `FactoryError` if the target's acceptance profiles reject the image of this cell with this manifest."""
    stop: Stop
    """If it is set, no further image is uploaded."""

    def upload(self, cell: CellReport) -> None:
        """Pack the image of `cell`, and upload the layers that the registries of `connections` lack.

        An image that the target does not accept is not uploaded. Every `FactoryError` is ignored: the release repeats
        the failed step and reports the error.
        """
        if cell.image is None or self.stop.is_set():
            return
        item = release_item(cell.cell, cell.image.id)
        with suppress(FactoryError):
            reachable = [connection for connection in self.connections if is_reachable(connection.registry.host)]
            content = self.source.pack(item, partial(is_lacking, reachable, item))
            self.require_accepted(cell, content.manifest)
            for connection in reachable:
                # Each registry for itself: one may be busy, or still lack the repository, which only a release creates.
                with suppress(FactoryError):
                    repository = connection.registry.repository(item)
                    upload_image(content, repository, connection.client, stop=self.stop)
        for connection in self.connections:
            connection.client.close()


def upload_size(
    images: Iterable[tuple[Cell, StoredImage]], connections: Sequence[RegistryConnection], cache: PackedCache
) -> int:
    """Return the number of bytes that a release of `images` would send to the registries of `connections`.

    Each different layer counts once for each registry that lacks it, with the compressed size in `cache`. A layer that
    is not in `cache` has no compressed digest yet, so no registry can be asked for it: it counts with its unpacked
    size, which is more than will be sent. A registry that cannot be reached or answers with an error counts as empty.
    """
    sizes: dict[str, int] = {}
    cells: dict[str, list[Cell]] = {}
    for cell, image in images:
        for layer in explain_layers(image, {}).layers:
            sizes[layer.digest] = layer.size
            cells.setdefault(layer.digest, []).append(cell)
    packed = {digest: blob for digest in sizes if (blob := cache.layer(digest)) is not None}
    return sum(_missing_bytes(connection, sizes, packed, cells) for connection in connections)


def _missing_bytes(
    connection: RegistryConnection,
    sizes: Mapping[str, int],
    packed: Mapping[str, Blob],
    cells: Mapping[str, Sequence[Cell]],
) -> int:
    """Return the bytes of the layers that one registry lacks.

    All mappings have the digest of the unpacked layer as key: `sizes` its unpacked bytes, `packed` its compressed blob
    (if it was ever packed), `cells` the cells whose images have the layer.
    """
    reachable = is_reachable(connection.registry.host)

    def has(digest: str) -> bool:
        # Any repository counts, because a layer is mounted from one repository of a registry into another.
        repositories = dict.fromkeys(connection.registry.with_prefix(cell.repository) for cell in cells[digest])
        try:
            return reachable and any(
                connection.client.has_blob(repository, packed[digest].digest) for repository in repositories
            )
        except RegistryError:
            return False

    unknown = sum(size for digest, size in sizes.items() if digest not in packed)
    return unknown + sum(blob.size for digest, blob in packed.items() if not has(digest))
