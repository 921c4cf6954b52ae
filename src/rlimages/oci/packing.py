"""Pack images of the local store (the engine's images) for a registry: compressed layers, configuration, manifest."""

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
"""Level of gzip, the one that engines use.

A layer is compressed once and pulled often: size matters more than speed.
"""
SaveImage = Callable[[], Iterator[bytes]]
"""A function that yields the archive of an image, as `docker image save` writes it, in chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedImage:
    """An image that was packed and can be uploaded to a registry."""

    manifest: Manifest
    config: bytes
    """The image configuration, as its exact JSON bytes."""
    folder: Path
    """Folder with the packed layers; the name of each file is the digest of the packed layer without `sha256:`."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Yield the bytes of `blob`, a layer or the configuration of the image, in chunks.

        Raise `ToolError` if the layer was not packed or can't be read.
        """
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
    """A cache on disk of what earlier packing gave: image id -> manifest and configuration, layer -> packed blob.

    It saves compressing a layer only to learn its digest. The compressed bytes are not in it. Its folder may be deleted
    at any time.
    """

    def __init__(self, folder: Path) -> None:
        """Use the cache in `folder`, which is created with the first entry."""
        self._folder = folder

    def image(self, image_id: str) -> tuple[Manifest, bytes] | None:
        """Return the manifest and the configuration of the image `image_id`; None if the cache does not have them."""
        config, content = self._read(image_id, "config"), self._read(image_id, "manifest")
        # a damaged entry has another digest, and counts as missing
        if config is None or content is None or sha256_digest(config) != image_id:
            return None
        return parse_manifest(content, DOCKER_MANIFEST, image_id), config

    def layer(self, diff_id: str) -> Blob | None:
        """Return the descriptor of a packed layer; None if the cache does not have it.

        `diff_id` is the digest of the layer's unpacked bytes.
        """
        content = self._read(diff_id, "layer")
        try:
            return Blob(**json.loads(content)) if content else None
        except (ValueError, TypeError):
            return None

    def keep_image(self, manifest: Manifest, config: bytes) -> None:
        """Write the manifest and the configuration of an image to the cache."""
        self._write(manifest.image, "config", config)
        self._write(manifest.image, "manifest", manifest.content)

    def keep_layer(self, diff_id: str, blob: Blob) -> None:
        """Write `blob`, the descriptor of a packed layer, to the cache.

        `diff_id` is the digest of its unpacked bytes.
        """
        fields = {"media_type": blob.media_type, "digest": blob.digest, "size": blob.size}
        self._write(diff_id, "layer", json.dumps(fields).encode())

    def _read(self, digest: str, suffix: str) -> bytes | None:
        """Return the content of the cache's file for `digest` with this suffix; None if it can't be read."""
        try:
            return (self._folder / f"{_hex_digest(digest)}.{suffix}").read_bytes()
        except OSError:
            return None

    def _write(self, digest: str, suffix: str, content: bytes) -> None:
        """Write `content` to the cache's file for `digest` with this suffix."""
        write_atomically(self._folder / f"{_hex_digest(digest)}.{suffix}", content)


def pack_image(
    image_id: str,
    save: SaveImage,
    folder: Path,
    cache: PackedCache,
    *,
    is_wanted: Callable[[Blob], bool] = lambda _blob: True,
) -> PackedImage:
    """Pack the image `image_id` of the local store into `folder`, and return it. Store the results in `cache`.

    `save` yields the image's archive. A layer that `cache` knows is packed again only if its file in `folder` is
    missing and `is_wanted` returns True for it, as for a layer that must be uploaded. If no layer has to be packed,
    `save` is not called. Raise `ToolError` if the archive is that of another image, or if `folder` can't be written.
    """
    cached = cache.image(image_id)
    if cached is not None and not any(is_wanted(layer) and not _is_stored(folder, layer) for layer in cached[0].layers):
        return PackedImage(manifest=cached[0], config=cached[1], folder=folder)

    def pack_layer(diff_id: str, content: IO[bytes]) -> tuple[str, Blob]:
        """Pack one layer unless that can be left out. Return the digest of its unpacked bytes, and the packed blob."""
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
    """Compress the layer `content` into a file of `folder`, which is named by the digest of the compressed bytes.

    Return the digest of the unpacked bytes, and the descriptor of the compressed layer.
    """
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
            # only now: the name is the digest, which is known when all bytes are compressed
            os.replace(file.name, folder / _hex_digest(blob.digest))
        except BaseException:
            os.unlink(file.name)
            raise
    return f"sha256:{content_hash.hexdigest()}", blob


class _HashingWriter:
    """A writable stream that passes all bytes to `file` and computes their SHA-256 in `hash`."""

    def __init__(self) -> None:
        """Create the stream without a file; set `file` before the first write."""
        self.hash = hashlib.sha256()
        self.file: Any = None

    def write(self, data: bytes) -> int:
        """Write `data` to the file, and return the number of bytes written."""
        self.hash.update(data)
        return int(self.file.write(data))

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()

    def close(self) -> None:
        """Do nothing: the caller closes the file."""


def _hex_digest(digest: str) -> str:
    """Return `digest` without `sha256:`, for names of files."""
    return digest.removeprefix("sha256:")


def _is_stored(folder: Path, blob: Blob) -> bool:
    """Return True if `folder` has the packed layer `blob`, in its full size."""
    path = folder / _hex_digest(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size
