"""Read the archive of an image that `docker image save` writes, once, from its beginning to its end."""

import io
import json
import posixpath
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Generic, TypeVar, cast

from rlimages.errors import ToolError
from rlimages.system.tar import ChunkStream

Layer = TypeVar("Layer")
_CHUNK_SIZE = 1 << 20
_BLOBS_FOLDER = "blobs/sha256"
_JSON_SIZE = 1 << 20
"""Bytes up to which a file of the archive may be the manifest or the configuration. Larger files are layers.

The manifest, which names them, comes last in the archive. So small files are kept in memory, and large files are read
as layers at once.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedImage(Generic[Layer]):
    """The configuration of a saved image, and what was read from each layer."""

    config: bytes
    diff_ids: tuple[str, ...]
    """`sha256:…` of each layer's unpacked bytes according to the configuration, the oldest layer first."""
    layers: tuple[Layer, ...]
    """What `read_layer` returned, the oldest layer first."""


def read_saved_image(
    chunks: Iterable[bytes], image: str, read_layer: Callable[[str, IO[bytes]], Layer]
) -> SavedImage[Layer]:
    """Read an archive of `docker image save`. Raise `ToolError` with the name `image` if it is not one.

    `read_layer` is called once for each layer, in the order of the archive. It gets the digest that is the layer's name
    in the archive (empty if it has another name), and the content, which can be read only during the call.
    """
    reader = _ArchiveReader(read_layer)
    try:
        with tarfile.open(fileobj=io.BufferedReader(ChunkStream(chunks), _CHUNK_SIZE), mode="r|") as archive:
            reader.read(archive)
        return reader.image()
    except (tarfile.TarError, EOFError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ToolError(f"{image}: what the engine saved is not an archive of an image ({error!r})") from error


class _ArchiveReader(Generic[Layer]):
    """The state while an archive is read."""

    def __init__(self, read_layer: Callable[[str, IO[bytes]], Layer]) -> None:
        self._read_layer = read_layer
        self._small_files: dict[str, bytes] = {}
        self._layers: dict[str, Layer] = {}
        self._links: dict[str, str] = {}

    def read(self, archive: tarfile.TarFile) -> None:
        for entry in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every entry in memory
            if entry.issym() or entry.islnk():
                # Docker before 25 writes a layer that occurs twice only once, and a link in its other place.
                target = entry.linkname if entry.islnk() else posixpath.join(entry.name, "..", entry.linkname)
                self._links[entry.name] = posixpath.normpath(target)
            elif entry.isfile():
                content = cast(IO[bytes], archive.extractfile(entry))
                if entry.size <= _JSON_SIZE:
                    self._small_files[entry.name] = content.read()
                else:
                    self._layers[entry.name] = self._read_layer(_digest_in_name(entry.name), content)

    def image(self) -> SavedImage[Layer]:
        manifest = json.loads(self._small_files["manifest.json"])[0]
        config = self._small_files[manifest["Config"]]
        return SavedImage(
            config=config,
            diff_ids=tuple(json.loads(config)["rootfs"]["diff_ids"]),
            layers=tuple(self._layer(name) for name in manifest["Layers"]),
        )

    def _layer(self, name: str) -> Layer:
        name = self._links.get(name, name)
        if name not in self._layers:
            self._layers[name] = self._read_layer(_digest_in_name(name), io.BytesIO(self._small_files[name]))
        return self._layers[name]


def _digest_in_name(name: str) -> str:
    """Return `sha256:…` for a file that is named by its digest; Docker before 25 uses other names for layers."""
    folder, _, digest = name.rpartition("/")
    return f"sha256:{digest}" if folder == _BLOBS_FOLDER else ""
