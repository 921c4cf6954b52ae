"""Bring the layers of images that passed to where they will be released, while others are still built.

Layers alone show nobody anything: no manifest, tag or repository is made here. What goes wrong goes wrong again in the
release, which says it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from rlimages import ledger, packing
from rlimages.distribution import Manifest
from rlimages.errors import FactoryError
from rlimages.places import Opened
from rlimages.results import CellReport
from rlimages.sending import send
from rlimages.shell import Stop
from rlimages.shipment import Fetch
from rlimages.wire import answers


def forwarder(
    fetch: Fetch,
    places: Sequence[Opened],
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
        item = ledger.item_of(cell.cell, cell.image.id)
        with suppress(FactoryError):
            near = [opened for opened in places if answers(opened.place.host)]
            content = fetch(item, partial(packing.is_lacking, near, item))
            judge(cell, content.manifest)
            for opened in near:
                with suppress(FactoryError):  # a repository that is still to be made, or a place that is busy
                    send(content, opened.place.repository(item), opened.registry, stop=stop)
        for opened in places:
            opened.registry.close()

    return forward
