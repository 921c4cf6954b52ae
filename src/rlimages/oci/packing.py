"""Pack images of the local store as registries store them: compressed layers, a configuration and a manifest."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from rlimages.errors import ToolError
from rlimages.oci.archive import read_saved_image
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

_CHUNK_SIZE = 1 << 20
_COMPRESSION_LEVEL = 6
"""The level that engines use. Each layer is compressed once and pulled many times, so speed matters less than size."""
SaveImage = Callable[[], Iterator[bytes]]
"""Returns the archive of an image as `docker image save` writes it, in chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedImage:
    """An image that can be uploaded to a registry."""

    manifest: Manifest
    config: bytes
    folder: Path
    """Contains the packed layers; the name of each file is the layer's digest without `sha256:`."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Yield the content of a blob. Raise `ToolError` if the layer was not packed or cannot be read."""
        if blob.digest == self.manifest.image:
            yield self.config
            return
        try:
            with (self.folder / _hex_digest(blob.digest)).open("rb") as file:
                while chunk := file.read(_CHUNK_SIZE):
                    yield chunk
        except OSError as error:
            raise ToolError(f"{error.filename}: a packed layer cannot be read: {error.strerror}") from error


class PackedCache:
    """The results of earlier packing: manifest and configuration by image, compressed blob by layer.

    It saves compressing a layer only to learn its digest. Its folder may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is created with the first entry."""
        self._folder = folder

    def image(self, image_id: str) -> tuple[Manifest, bytes] | None:
        """Return the manifest and the configuration of an image; None if it was never packed."""
        config, content = self._read(image_id, "config"), self._read(image_id, "manifest")
        if config is None or content is None or sha256_digest(config) != image_id:
            return None
        return parse_manifest(content, DOCKER_MANIFEST, image_id), config

    def layer(self, diff_id: str) -> Blob | None:
        """Return the compressed blob of a layer by the digest of its unpacked bytes; None if it was never packed."""
        content = self._read(diff_id, "layer")
        try:
            return Blob(**json.loads(content)) if content else None
        except (ValueError, TypeError):
            return None

    def keep_image(self, manifest: Manifest, config: bytes) -> None:
        """Store the manifest and the configuration of an image."""
        self._write(manifest.image, "config", config)
        self._write(manifest.image, "manifest", manifest.content)

    def keep_layer(self, diff_id: str, blob: Blob) -> None:
        """Store the compressed blob of a layer."""
        fields = {"media_type": blob.media_type, "digest": blob.digest, "size": blob.size}
        self._write(diff_id, "layer", json.dumps(fields).encode())

    def _read(self, digest: str, kind: str) -> bytes | None:
        try:
            return (self._folder / f"{_hex_digest(digest)}.{kind}").read_bytes()
        except OSError:
            return None

    def _write(self, digest: str, kind: str, content: bytes) -> None:
        write_atomically(self._folder / f"{_hex_digest(digest)}.{kind}", content)


def pack_image(
    image_id: str,
    save: SaveImage,
    folder: Path,
    cache: PackedCache,
    *,
    is_wanted: Callable[[Blob], bool] = lambda _blob: True,
) -> PackedImage:
    """Pack an image of the local store into `folder`, and store the results in the cache.

    A layer in the cache is packed again only if `is_wanted` returns True for it and its file is missing. If that is so
    for no layer, the image is not saved at all. Raise `ToolError` if the engine saves another image, or the disk is
    full.
    """
    cached = cache.image(image_id)
    if cached is not None and not any(is_wanted(layer) and not _is_stored(folder, layer) for layer in cached[0].layers):
        return PackedImage(manifest=cached[0], config=cached[1], folder=folder)

    def pack_layer(diff_id: str, content: IO[bytes]) -> tuple[str, Blob]:
        known = cache.layer(diff_id) if diff_id else None
        if known and (_is_stored(folder, known) or not is_wanted(known)):
            return diff_id, known
        diff_id, blob = _compress_layer(content, folder)
        cache.keep_layer(diff_id, blob)
        return diff_id, blob

    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved = read_saved_image(save(), image_id, pack_layer)
        if saved.diff_ids != tuple(diff_id for diff_id, _ in saved.layers) or sha256_digest(saved.config) != image_id:
            raise ToolError(f"{image_id}: the engine saved another content; its store may be damaged")
        config = Blob(media_type=DOCKER_CONFIG, digest=image_id, size=len(saved.config))
        manifest = compose_manifest(config, [blob for _, blob in saved.layers])
        cache.keep_image(manifest, saved.config)
    except OSError as error:
        raise ToolError(f"{folder}: cannot pack the layers of {image_id}: {error.strerror or error}") from error
    return PackedImage(manifest=manifest, config=saved.config, folder=folder)


def _compress_layer(content: IO[bytes], folder: Path) -> tuple[str, Blob]:
    """Compress a layer into a file of the folder. Return the digest of the unpacked bytes, and the packed blob."""
    from zlib_ng import gzip_ng_threaded

    content_hash, output = hashlib.sha256(), _HashingWriter()
    with NamedTemporaryFile(dir=folder, prefix="part-", delete=False) as file:
        try:
            output.file = file
            with gzip_ng_threaded.open(  # type: ignore[no-untyped-call]
                output, "wb", compresslevel=_COMPRESSION_LEVEL, threads=os.cpu_count() or 1
            ) as packed:
                while chunk := content.read(_CHUNK_SIZE):
                    content_hash.update(chunk)
                    packed.write(chunk)
            file.flush()
            blob = Blob(media_type=DOCKER_LAYER, digest=f"sha256:{output.hash.hexdigest()}", size=file.tell())
            os.replace(file.name, folder / _hex_digest(blob.digest))
        except BaseException:
            os.unlink(file.name)
            raise
    return f"sha256:{content_hash.hexdigest()}", blob


class _HashingWriter:
    """A writable file that computes the digest of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.file: Any = None

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """Keep the file open: it is closed by the caller."""


def _hex_digest(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _is_stored(folder: Path, blob: Blob) -> bool:
    path = folder / _hex_digest(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size
