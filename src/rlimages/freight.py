"""What a release would have to send: asked of the places that it goes to, as far as they can know."""

from collections.abc import Iterable, Mapping, Sequence

from rlimages import stack
from rlimages.archive import Shelf
from rlimages.cell import Cell
from rlimages.distribution import Blob
from rlimages.errors import RegistryError
from rlimages.ledger import item_of
from rlimages.places import Opened
from rlimages.stack import Stored
from rlimages.wire import answers


def to_send(images: Iterable[tuple[Cell, Stored]], places: Sequence[Opened], shelf: Shelf) -> int:
    """Bytes of the layers that places lack, in each place once, whichever of the repositories has it.

    A layer that was never packed here has no name yet by which a registry could know it: it counts unpacked, which is
    more than will travel. So does, packed, what a place does not say.
    """
    sizes: dict[str, int] = {}
    cells: dict[str, list[Cell]] = {}
    for cell, image in images:
        for layer in stack.stack(image, {}).strata:
            sizes[layer.digest] = layer.size
            cells.setdefault(layer.digest, []).append(cell)
    packed = {digest: blob for digest in sizes if (blob := shelf.layer(digest)) is not None}
    return sum(_lacking(opened, sizes, packed, cells) for opened in places)


def _lacking(
    opened: Opened, sizes: Mapping[str, int], packed: Mapping[str, Blob], cells: Mapping[str, Sequence[Cell]]
) -> int:
    there = answers(opened.place.host)

    def has(digest: str) -> bool:
        names = dict.fromkeys(opened.place.repository(item_of(cell, "")) for cell in cells[digest])
        try:
            return there and any(opened.registry.has_blob(name, packed[digest].digest) for name in names)
        except RegistryError:
            return False

    unknown = sum(size for digest, size in sizes.items() if digest not in packed)
    return unknown + sum(blob.size for digest, blob in packed.items() if not has(digest))
