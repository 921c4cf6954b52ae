"""Send the blobs of an image to one registry, a few at once."""

from concurrent.futures import ThreadPoolExecutor

from rlimages.distribution import Blob
from rlimages.errors import Interrupted
from rlimages.registry import Registry
from rlimages.shell import Stop
from rlimages.shipment import Content

AT_ONCE = 4
"""Layers that travel to one registry at once."""


def send(content: Content, repository: str, registry: Registry, *, stop: Stop, sources: tuple[str, ...] = ()) -> None:
    """Bring what a repository lacks of an image; `sources` are repositories there that may have it already.

    Raises `RegistryError` where the registry does not take it, `Interrupted` when `stop` is set.
    """

    def upload(blob: Blob) -> None:
        if stop.is_set():
            raise Interrupted("interrupted")
        registry.upload(repository, blob, lambda: content.chunks(blob), sources=sources)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for done in [pool.submit(upload, blob) for blob in content.manifest.blobs]:
            done.result()
