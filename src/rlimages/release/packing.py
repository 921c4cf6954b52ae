"""Pack images and upload their layers ahead of a release, and estimate the size of an upload.

No tag and no manifest is written here, so nothing of this is visible to anybody who pulls images.
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
    """Pack all images, with the layers that any registry lacks. Return the manifest that will be uploaded, by cell.

    Registries are only asked what they have. One that cannot be reached is not counted: the release packs the layers
    that it lacks when it serves that registry.
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
    """Return whether a blob must be sent to any of the registries. One that gives no answer counts as lacking it."""
    for connection in connections:
        try:
            if not connection.client.has_blob(connection.registry.repository(item), blob.digest):
                return True
        except RegistryError:
            return True
    return False


def clear_packed(state: StateFolder) -> None:
    """Delete packed layers after a release. Their digests are kept, so no layer that a registry has is packed again."""
    for path in state.blobs.glob("*"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class EarlyUploader:
    """Uploads the layers of images that passed their checks, while other images are still built."""

    source: LocalStoreSource
    connections: Sequence[RegistryConnection]
    require_accepted: Callable[[CellReport, Manifest], None]
    """Raises `FactoryError` for an image that the target does not accept, packed as this manifest."""
    stop: Stop

    def upload(self, cell: CellReport) -> None:
        """Pack a cell's image, and upload the layers that the registries lack. The release finds what was packed.

        A failure is ignored here: the release does the same again, and reports it.
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
    """Return the bytes of the layers that the registries lack. Each layer counts once for each registry that lacks it.

    A layer that was never packed on this machine has no digest yet that a registry could be asked for. It counts with
    its unpacked size, which is more than will be sent. A registry that gives no answer counts as empty.
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
