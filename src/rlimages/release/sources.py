"""Where a release takes its images from: the local store, a registry, or one of the two for each image."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Protocol

from rlimages.errors import RegistryError
from rlimages.oci.manifest import Blob, Manifest, PackedContent
from rlimages.oci.packing import PackedCache, pack_image
from rlimages.project.state import StateFolder
from rlimages.registry.client import RegistryClient
from rlimages.release.model import RegistryConnection, ReleaseItem

IsWanted = Callable[[Blob], bool]
"""Returns whether a blob will be read. A source need not prepare the others."""


class ImageSource(Protocol):
    """Gives the images of a release as a registry stores them."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Return the manifest of an item, and the content of the blobs that are wanted for a destination."""

    def mountable_from(self, destination: RegistryConnection) -> Sequence[str]:
        """Return other repositories of the destination's registry from which it can mount the release's layers."""


class LocalStoreSource:
    """Packs images of the local store. May be used by several threads: each image is packed once."""

    def __init__(self, save: Callable[[str], Iterator[bytes]], state: StateFolder) -> None:
        """`save` gives an image, by its id, as `docker image save` does. Packed layers are kept below `state`."""
        self._save = save
        self._blobs = state.blobs
        self._cache = PackedCache(state.packed)
        self._locks: dict[str, Lock] = {}
        self._guard = Lock()

    def pack(self, item: ReleaseItem, is_wanted: IsWanted) -> PackedContent:
        """Pack an image. Layers that were packed before or are not wanted are not compressed again."""
        with self._guard:
            lock = self._locks.setdefault(item.image, Lock())
        with lock:
            return pack_image(
                item.image, partial(self._save, item.image), self._blobs, self._cache, is_wanted=is_wanted
            )

    def fetch(self, item: ReleaseItem, _destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Pack an image; the same for all destinations."""
        return self.pack(item, is_wanted)

    def mountable_from(self, _destination: RegistryConnection) -> Sequence[str]:
        """Return no repository: the local store is not a registry."""
        return ()


@dataclass(frozen=True, kw_only=True)
class RegistryContent:
    """An image in a registry, as the content of a release."""

    manifest: Manifest
    client: RegistryClient
    repository: str

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Read a blob in pieces. The destination checks its digest when it stores it."""
        return self.client.stream_blob(self.repository, blob.digest)


@dataclass(frozen=True, kw_only=True)
class RegistrySource:
    """Copies images from the registries of a target, byte for byte."""

    connections: Sequence[RegistryConnection]
    items: Sequence[ReleaseItem]
    """All images of the release: their repositories are those from which layers can be mounted."""
    tags: Mapping[str, str]
    """Cell -> the tag that its image has in the source."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, _is_wanted: IsWanted) -> PackedContent:
        """Return an item's image in the nearest registry. Raises `RegistryError` if its tag has another image now."""
        source = nearest_connection(self.connections, destination)
        tag = self.tags[item.cell]
        repository = source.registry.repository(item)
        manifest = source.client.read_manifest(repository, tag)
        # The tag may have moved since the image was chosen, and with it everything that was checked about the image.
        if manifest is None or manifest.image != item.image:
            raise RegistryError(
                f"{source.registry.reference(item, tag)} is {manifest.image if manifest else 'gone'} now; "
                f"this release was started with {item.image}"
            )
        return RegistryContent(manifest=manifest, client=source.client, repository=repository)

    def mountable_from(self, destination: RegistryConnection) -> Sequence[str]:
        """Return the source's repositories if they are in the destination's registry: layers need not be sent then."""
        source = nearest_connection(self.connections, destination)
        if source.registry.host != destination.registry.host:
            return ()
        return tuple(dict.fromkeys(source.registry.repository(item) for item in self.items))


@dataclass(frozen=True, kw_only=True)
class MixedSource:
    """Takes some images from a registry, and all others from the local store."""

    local: LocalStoreSource
    registry: RegistrySource
    in_registry: Collection[str]
    """Ids of the cells whose images are taken from the registry."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Return an image from the source that has it."""
        source: ImageSource = self.registry if item.cell in self.in_registry else self.local
        return source.fetch(item, destination, is_wanted)

    def mountable_from(self, destination: RegistryConnection) -> Sequence[str]:
        """Return the repositories of the registry that has some of the images."""
        return self.registry.mountable_from(destination)


def nearest_connection(
    connections: Sequence[RegistryConnection], destination: RegistryConnection
) -> RegistryConnection:
    """Return the connection to copy from: the same registry, else the same region, else the first."""
    region = destination.registry.name.rpartition("/")[2]
    same_host = [source for source in connections if source.registry.host == destination.registry.host]
    same_region = [source for source in connections if source.registry.name.rpartition("/")[2] == region]
    return [*same_host, *same_region, *connections][0]
