"""Read the tar archive that `docker image save` writes, once, from its beginning to its end."""

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
    """The configuration of an image in an archive of `docker image save`, and a value that was read from each layer."""

    config: bytes
    """The image configuration, as its exact JSON bytes."""
    diff_ids: tuple[str, ...]
    """Digest (`sha256:…`) of each layer's unpacked bytes according to the configuration, the oldest layer first."""
    layers: tuple[Layer, ...]
    """The value that `read_layer` returned for each layer, the oldest layer first."""


def read_saved_image(
    chunks: Iterable[bytes], image: str, read_layer: Callable[[str, IO[bytes]], Layer]
) -> SavedImage[Layer]:
    """Read the archive of `docker image save` in `chunks`. Return the configuration and a value for each layer.

    `read_layer` makes this value. It is called once for each layer, in the order of the archive, with the digest that
    is the layer's name in the archive (an empty string if it has another name), and with the layer's content, which can
    be read only during the call. Raise `ToolError` if it is not an archive of an image; `image` is the image's name in
    the message.
    """
    reader = _ArchiveReader(read_layer)
    try:
        with tarfile.open(fileobj=io.BufferedReader(ChunkStream(chunks), _CHUNK_SIZE), mode="r|") as archive:
            reader.read(archive)
        return reader.image()
    except (tarfile.TarError, EOFError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ToolError(f"{image}: what the engine saved is not an archive of an image ({error!r})") from error


class _ArchiveReader(Generic[Layer]):
    """A reader of one archive of `docker image save`: `read` collects its entries, then `image` puts them together."""

    def __init__(self, read_layer: Callable[[str, IO[bytes]], Layer]) -> None:
        """Use `read_layer` for the content of each layer, as `read_saved_image` describes it."""
        self._read_layer = read_layer
        self._small_files: dict[str, bytes] = {}
        self._layers: dict[str, Layer] = {}
        self._links: dict[str, str] = {}

    def read(self, archive: tarfile.TarFile) -> None:
        """Keep the small files and links of `archive`, and pass each large file to `read_layer`."""
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
        """Return the image of the archive that was read. Raise `KeyError` if one of its files is missing."""
        manifest = json.loads(self._small_files["manifest.json"])[0]
        config = self._small_files[manifest["Config"]]
        return SavedImage(
            config=config,
            diff_ids=tuple(json.loads(config)["rootfs"]["diff_ids"]),
            layers=tuple(self._layer(name) for name in manifest["Layers"]),
        )

    def _layer(self, name: str) -> Layer:
        """Return the value of `read_layer` for the layer in the entry `name`; small layers are read only now."""
        name = self._links.get(name, name)
        if name not in self._layers:
            self._layers[name] = self._read_layer(_digest_in_name(name), io.BytesIO(self._small_files[name]))
        return self._layers[name]


def _digest_in_name(name: str) -> str:
    """Return the digest `sha256:…` of the archive's file `name`, if the name contains it; an empty string if not.

    Docker before 25 uses other names for layers.
    """
    folder, _, digest = name.rpartition("/")
    return f"sha256:{digest}" if folder == _BLOBS_FOLDER else ""
