"""Pack images that passed while others are still built, so that a release only has to send them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from rlimages import archive
from rlimages.archive import Shelf
from rlimages.errors import FactoryError, Interrupted
from rlimages.results import CellReport
from rlimages.shell import Stop


def packer(save: Callable[[str], Iterator[bytes]], state: Path, stop: Stop) -> Callable[[CellReport], None]:
    """What packs a cell's image into `state`, where `packing.from_store` finds it; `save` saves an image by its id.

    Only layers that were never packed before are packed: most of the others lie in the registries. What goes wrong here
    goes wrong again in the release, which says it.
    """

    def pieces(image: str) -> Iterator[bytes]:
        for piece in save(image):
            if stop.is_set():
                raise Interrupted("interrupted")
            yield piece

    def pack(cell: CellReport) -> None:
        if cell.image and not stop.is_set():
            blobs, shelf, image = state / "blobs", Shelf(state / "packed"), cell.image.id
            with suppress(FactoryError):
                archive.pack(image, lambda: pieces(image), blobs, shelf, wanted=lambda _blob: False)

    return pack
