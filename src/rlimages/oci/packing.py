"""Pack the output of `docker save` into compressed layers and a manifest, as a registry stores them."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, cast

from rlimages.errors import ToolError
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Blob,
    Manifest,
    compose_manifest,
    parse_manifest,
    sha256_digest,
)
from rlimages.system.files import write_atomically

_PIECE = 1 << 20
_LEVEL = 6
"""As engines do: a smaller image is pulled faster, each time."""
_SMALL = 1 << 20
"""Bytes up to which a file of the archive may be its JSON."""
SaveImage = Callable[[], Iterator[bytes]]
"""Gives an image as `docker image save` does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedImage:
    """An image as registries take it."""

    manifest: Manifest
    config: bytes
    folder: Path
    """Where the packed layers lie, each under its digest without `sha256:`."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """A blob, piece by piece. Raises `ToolError` where it was not packed."""
        if blob.digest == self.manifest.image:
            yield self.config
            return
        try:
            with (self.folder / _bare_digest(blob.digest)).open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except OSError as error:
            raise ToolError(f"{error.filename}: a packed layer cannot be read: {error.strerror}") from error


class PackedCache:
    """What packing gave before: image -> manifest and configuration, layer -> blob. A folder that may be lost."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when there is something to put in it."""
        self._folder = folder

    def image(self, name: str) -> tuple[Manifest, bytes] | None:
        """What an image became, by its id."""
        config, content = self._read(name, "config"), self._read(name, "manifest")
        if config is None or content is None or sha256_digest(config) != name:
            return None
        return parse_manifest(content, DOCKER_MANIFEST, name), config

    def layer(self, name: str) -> Blob | None:
        """What a layer became, by the digest of its unpacked bytes."""
        content = self._read(name, "layer")
        try:
            return Blob(**json.loads(content)) if content else None
        except (ValueError, TypeError):
            return None

    def keep_image(self, manifest: Manifest, config: bytes) -> None:
        """Remember an image."""
        self._write(manifest.image, "config", config)
        self._write(manifest.image, "manifest", manifest.content)

    def keep_layer(self, name: str, blob: Blob) -> None:
        """Remember a layer."""
        words = {"media_type": blob.media_type, "digest": blob.digest, "size": blob.size}
        self._write(name, "layer", json.dumps(words).encode())

    def _read(self, name: str, kind: str) -> bytes | None:
        try:
            return (self._folder / f"{_bare_digest(name)}.{kind}").read_bytes()
        except OSError:
            return None

    def _write(self, name: str, kind: str, content: bytes) -> None:
        write_atomically(self._folder / f"{_bare_digest(name)}.{kind}", content)


def pack_image(
    image: str,
    save: SaveImage,
    folder: Path,
    shelf: PackedCache,
    *,
    wanted: Callable[[Blob], bool] = lambda _blob: True,
) -> PackedImage:
    """Pack an image of the local store. Layers that were packed before, and that `wanted` says no to, are not again.

    Raises `ToolError` when what the engine saves is not that image, or the disk is full.
    """
    known = shelf.image(image)
    if known is not None and not any(wanted(layer) and not _is_stored(folder, layer) for layer in known[0].layers):
        return PackedImage(manifest=known[0], config=known[1], folder=folder)
    packer = _Packer(folder, shelf, wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=cast(IO[bytes], _Stream(save())), mode="r|") as archive:
            packer.take(archive)
        manifest, config = packer.compose(image)
        shelf.keep_image(manifest, config)
    except tarfile.TarError as error:
        raise ToolError(f"{image}: what the engine saved is not an archive of an image: {error}") from error
    except OSError as error:
        raise ToolError(f"{folder}: cannot pack the layers of {image}: {error.strerror or error}") from error
    return PackedImage(manifest=manifest, config=config, folder=folder)


class _Packer:
    """Reads an archive once, from its beginning to its end, in whatever order its files come."""

    def __init__(self, folder: Path, shelf: PackedCache, wanted: Callable[[Blob], bool]) -> None:
        self._folder = folder
        self._shelf = shelf
        self._wanted = wanted
        self._small: dict[str, bytes] = {}
        self._layers: dict[str, tuple[str, Blob]] = {}
        """Name in the archive -> digest of the unpacked layer, and the packed one."""
        self._links: dict[str, str] = {}

    def take(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            if member.issym() or member.islnk():  # engines before 25 save a layer once, and point at it
                target = member.linkname if member.islnk() else os.path.join(member.name, "..", member.linkname)
                self._links[member.name] = os.path.normpath(target)
            elif member.isfile():
                content = cast(IO[bytes], archive.extractfile(member))
                if member.size <= _SMALL:
                    self._small[member.name] = content.read()
                else:
                    pieces = iter(lambda content=content: content.read(_PIECE), b"")  # type: ignore[misc]
                    self._layers[member.name] = self._layer(member.name, pieces)

    def compose(self, image: str) -> tuple[Manifest, bytes]:
        """The manifest and the configuration. Raises `ToolError` where a layer is not what the configuration says."""
        try:
            told = json.loads(self._small["manifest.json"])[0]
            config = self._small[told["Config"]]
            promised = json.loads(config)["rootfs"]["diff_ids"]
            found = [self._found(name) for name in told["Layers"]]
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ToolError(f"{image}: what the engine saved is not an archive of an image ({error!r})") from error
        if [name for name, _ in found] != promised or sha256_digest(config) != image:
            raise ToolError(f"{image}: the engine saved something else; is its store damaged?")
        own = Blob(media_type=DOCKER_CONFIG, digest=image, size=len(config))
        return compose_manifest(own, [blob for _, blob in found]), config

    def _found(self, name: str) -> tuple[str, Blob]:
        name = self._links.get(name, name)
        if name not in self._layers:
            self._layers[name] = self._layer(name, iter([self._small[name]]))
        return self._layers[name]

    def _layer(self, name: str, pieces: Iterator[bytes]) -> tuple[str, Blob]:
        promised = f"sha256:{name.rpartition('/')[2]}"
        known = self._shelf.layer(promised)
        if known and (_is_stored(self._folder, known) or not self._wanted(known)):
            return promised, known
        unpacked, blob = self._compress(pieces)
        self._shelf.keep_layer(unpacked, blob)
        return unpacked, blob

    def _compress(self, pieces: Iterator[bytes]) -> tuple[str, Blob]:
        from zlib_ng import gzip_ng_threaded

        before, after = hashlib.sha256(), _Hashing()
        with NamedTemporaryFile(dir=self._folder, prefix="part-", delete=False) as file:
            try:
                after.file = file
                threads = os.cpu_count() or 1
                with gzip_ng_threaded.open(after, "wb", compresslevel=_LEVEL, threads=threads) as packed:  # type: ignore[no-untyped-call]
                    for piece in pieces:
                        before.update(piece)
                        packed.write(piece)
                file.flush()
                blob = Blob(media_type=DOCKER_LAYER, digest=f"sha256:{after.hash.hexdigest()}", size=file.tell())
                os.replace(file.name, self._folder / _bare_digest(blob.digest))
            except BaseException:
                os.unlink(file.name)
                raise
        return f"sha256:{before.hexdigest()}", blob


class _Hashing:
    """A file to write to that takes the digest of what passes."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.file: Any = None

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """The file is closed by who opened it."""


class _Stream:
    """Pieces as a file that can be read from its beginning to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    break
            parts.append(self._rest[:size])
            self._rest = self._rest[len(parts[-1]) :]
            size -= len(parts[-1])
        return b"".join(parts)


def _bare_digest(name: str) -> str:
    return name.removeprefix("sha256:")


def _is_stored(folder: Path, blob: Blob) -> bool:
    path = folder / _bare_digest(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size
