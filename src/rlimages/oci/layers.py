"""Read the layers of an image: check the digest of a layer's content, list its entries, and apply its whiteouts.

Whiteouts are the entries by which a layer deletes paths of the layers below it (OCI image specification, "Whiteouts").
"""

import gzip
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

from rlimages.errors import RegistryError
from rlimages.oci.manifest import Blob
from rlimages.system.tar import ChunkStream

_CHUNK_SIZE = 1 << 20
_WHITEOUT_PREFIX = ".wh."
_OPAQUE_WHITEOUT = ".wh..wh..opq"


@contextmanager
def open_layer(blob: Blob, chunks: Iterable[bytes], check_stop: Callable[[], None]) -> Iterator[IO[bytes]]:
    """Yield the unpacked tar archive of the layer `blob`, a stream that can be read within the block.

    `chunks` are the bytes of the blob as a registry stores them. `check_stop` is called for each chunk and may raise.
    At the end of the block, the rest of `chunks` is read. Raise `RegistryError` then if the bytes do not have the
    digest of `blob`, or within the block if they are not an archive of its media type.
    """
    from zlib_ng import gzip_ng, zlib_ng

    content_hash = hashlib.sha256()

    def hashed_chunks() -> Iterator[bytes]:
        """Yield `chunks`, and add each of them to the digest."""
        for chunk in chunks:
            check_stop()
            content_hash.update(chunk)
            yield chunk

    stream = io.BufferedReader(ChunkStream(hashed_chunks()), _CHUNK_SIZE)
    try:
        if blob.media_type.endswith("gzip"):
            yield cast(IO[bytes], gzip_ng.GzipNGFile(fileobj=stream))  # type: ignore[no-untyped-call]
        else:
            yield stream
        while stream.read(_CHUNK_SIZE):  # tarfile stops at the end of the archive; the digest covers all bytes
            pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib_ng.error, EOFError) as error:  # type: ignore[misc]
        raise RegistryError(f"layer {blob.digest} is not what its media type says: {error}") from error
    digest = f"sha256:{content_hash.hexdigest()}"
    if digest != blob.digest:
        raise RegistryError(
            f"layer {blob.digest} was received with the digest {digest}; a proxy may have changed its content"
        )


@dataclass(frozen=True, slots=True)
class Whiteouts:
    """The deletions of one or more layers: the paths of the layers below that do not exist in the image.

    All paths are without a slash at the beginning.
    """

    paths: set[str] = field(default_factory=set)
    """Deleted files, links and folders."""
    opaque_folders: set[str] = field(default_factory=set)
    """Folders whose contents in the layers below are deleted; an empty string is the root."""

    def add(self, path: str) -> bool:
        """Record the deletion, if the entry `path` of a layer is a whiteout, and return True.

        Return False if the entry is an ordinary file, link or folder.
        """
        folder, name = posixpath.split(path)
        if name == _OPAQUE_WHITEOUT:
            self.opaque_folders.add(folder)
        elif name.startswith(_WHITEOUT_PREFIX):
            self.paths.add(posixpath.join(folder, name.removeprefix(_WHITEOUT_PREFIX)))
        else:
            return False
        return True

    def update(self, other: "Whiteouts") -> None:
        """Add the deletions of `other`."""
        self.paths.update(other.paths)
        self.opaque_folders.update(other.opaque_folders)

    def hides(self, path: str, is_not_folder: Callable[[str], bool]) -> bool:
        """Return True if `path` of a lower layer is deleted, or is below a path that is not a folder any more.

        `is_not_folder` returns True for a path at which the upper layers have a file or link.
        """
        folders = tuple(parent_folders(path))
        return (
            not self.paths.isdisjoint((path, *folders))
            or not self.opaque_folders.isdisjoint(("", *folders))
            or any(is_not_folder(folder) for folder in folders)
        )


def layer_entries(archive: tarfile.TarFile, whiteouts: Whiteouts) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield (path, entry) of each file, folder and link in `archive`, a layer, and add its deletions to `whiteouts`.

    Paths have no slash at the beginning; the root is an empty string.
    """
    for entry in archive:
        archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every entry in memory
        path = normalize_path(entry.name)
        if not whiteouts.add(path):
            yield path, entry


def normalize_path(path: str) -> str:
    """Return `path` of an archive without `.`, `..` and slashes at its ends: `usr/bin` for `./usr/bin/`."""
    return posixpath.normpath("/" + path).strip("/")


def parent_folders(path: str) -> Iterator[str]:
    """Return the folders above `path`, the outermost first: `usr`, `usr/bin` for `usr/bin/python`."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))
