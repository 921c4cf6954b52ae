"""Read the images of a release from their source: the local store, a registry, or one of the two for each image."""

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
"""Returns whether the content of a blob will be read. A source need not prepare the content of other blobs."""


class ImageSource(Protocol):
    """The interface of the sources of a release: they return images in the form in which a registry stores them."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Return the manifest of the image of `item`, and the content of its blobs for which `is_wanted` returns True.

        `destination` is the registry that the image will be uploaded to. Raises `FactoryError` if the image cannot be
        read.
        """

    def mountable_from(self, destination: RegistryConnection) -> Sequence[str]:
        """Return the repositories in the registry of `destination` that have layers of the release already.

        The registry mounts these layers from there, so they are not sent. The names are full names without the host.
        """


class LocalStoreSource:
    """Gives a release its images from the local store (the engine's images), with compressed layers.

    May be used by several threads; the layers of each image are compressed only once.
    """

    def __init__(self, save: Callable[[str], Iterator[bytes]], state: StateFolder) -> None:
        """Read images with `save`, and pack them into the state folder `state`.

        `save` yields the archive that `docker image save` writes for an image id.
        """
        self._save = save
        self._blobs = state.blobs
        self._cache = PackedCache(state.packed)
        self._locks: dict[str, Lock] = {}
        self._guard = Lock()

    def pack(self, item: ReleaseItem, is_wanted: IsWanted) -> PackedContent:
        """Return the image of `item` in packed form, ready for upload.

        A layer is compressed if its digest is not known yet, or if `is_wanted` returns True for it and its file is
        missing. Raises `ToolError` if the image cannot be packed.
        """
        with self._guard:
            lock = self._locks.setdefault(item.image, Lock())
        with lock:
            return pack_image(
                item.image, partial(self._save, item.image), self._blobs, self._cache, is_wanted=is_wanted
            )

    def fetch(self, item: ReleaseItem, _destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Return the image of `item` in packed form, as `pack` does. The destination makes no difference."""
        return self.pack(item, is_wanted)

    def mountable_from(self, _destination: RegistryConnection) -> Sequence[str]:
        """Return an empty tuple: the local store is not a registry."""
        return ()


@dataclass(frozen=True, kw_only=True)
class RegistryContent:
    """An image in a registry that is copied to another registry or repository."""

    manifest: Manifest
    client: RegistryClient
    """Client of the registry that has the image."""
    repository: str
    """Full name of the repository that has the image, without the host."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Yield the content of `blob` in pieces. Its digest is not checked here: the destination does that."""
        return self.client.stream_blob(self.repository, blob.digest)


@dataclass(frozen=True, kw_only=True)
class RegistrySource:
    """A target as a source: its images are copied byte for byte, each from the nearest registry of the target."""

    connections: Sequence[RegistryConnection]
    """The registries of the target, which all have the images."""
    items: Sequence[ReleaseItem]
    """All images of the release. Layers can be mounted from their repositories."""
    tags: Mapping[str, str]
    """Cell id -> the tag under which the target has its image."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, _is_wanted: IsWanted) -> PackedContent:
        """Return the image of `item` in the registry that is the nearest one to `destination`.

        Raises `RegistryError` if the image's tag does not exist there, or has another image now.
        """
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
        """Return the repositories of all items if they are in the registry of `destination`, or an empty tuple."""
        source = nearest_connection(self.connections, destination)
        if source.registry.host != destination.registry.host:
            return ()
        return tuple(dict.fromkeys(source.registry.repository(item) for item in self.items))


@dataclass(frozen=True, kw_only=True)
class MixedSource:
    """A source that takes some images from a registry, and all other images from the local store."""

    local: LocalStoreSource
    registry: RegistrySource
    in_registry: Collection[str]
    """Ids of the cells whose images are taken from the registry."""

    def fetch(self, item: ReleaseItem, destination: RegistryConnection, is_wanted: IsWanted) -> PackedContent:
        """Return the image of `item` from the registry if its cell is in `in_registry`, or from the local store."""
        source: ImageSource = self.registry if item.cell in self.in_registry else self.local
        return source.fetch(item, destination, is_wanted)

    def mountable_from(self, destination: RegistryConnection) -> Sequence[str]:
        """Return the repositories from which `registry`, the source of some images, lets `destination` mount layers."""
        return self.registry.mountable_from(destination)


def nearest_connection(
    connections: Sequence[RegistryConnection], destination: RegistryConnection
) -> RegistryConnection:
    """Return the connection to copy from: with the host of `destination`, or else its region, or else the first.

    The region is the last part of the registry's name in the target, such as `us-west-2`.
    """
    region = destination.registry.name.rpartition("/")[2]
    same_host = [source for source in connections if source.registry.host == destination.registry.host]
    same_region = [source for source in connections if source.registry.name.rpartition("/")[2] == region]
    return [*same_host, *same_region, *connections][0]
