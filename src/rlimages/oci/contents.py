"""Read everything that an image contains: its files, packages and configuration."""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from rlimages.oci.archive import read_saved_image
from rlimages.oci.layers import Whiteouts, layer_entries, normalize_path

_CHUNK_SIZE = 1 << 20
_DPKG_STATUS = "var/lib/dpkg/status"
_RPM_DATABASE = re.compile(r"^(var/lib/rpm|usr/lib/sysimage/rpm)/")
_PYTHON_DISTRIBUTION = re.compile(r"/(?P<name>[^/]+)\.(dist-info/METADATA|egg-info/PKG-INFO|egg-info)$")
_XATTR_PREFIX = "SCHILY.xattr."
"""Docker writes extended attributes as pax headers with this prefix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """A file, folder, link, device or pipe of an image. A hard link is a file like any other."""

    kind: str
    """`file`, `folder`, `link`, `device` or `pipe`."""
    mode: int
    owner: tuple[int, int]
    """User and group."""
    size: int = 0
    content: bytes = b""
    """SHA-256 of a file; empty for anything else."""
    target: str = ""
    """Of a link; of a device, its numbers."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Extended attributes, such as capabilities."""
    time: float = 0
    """Seconds since 1970; not compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageContents:
    """The files, packages and configuration of an image: all in which two images can differ."""

    id: str
    config: Mapping[str, Any]
    layers: tuple[str, ...]
    """`sha256:…` of each layer's unpacked bytes, the oldest first."""
    files: Mapping[str, FileEntry]
    """By path, without a slash at the beginning."""
    packages: Mapping[str, str]
    """`deb name:arch` or `pypi name` -> versions."""


@dataclass(frozen=True, slots=True)
class LayerContents:
    """The files of one layer, and the paths that it deletes."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    whiteouts: Whiteouts = field(default_factory=Whiteouts)
    debs: dict[str, str] = field(default_factory=dict)
    """The distribution's packages, if the layer contains their list."""

    def hides(self, path: str) -> bool:
        """Return whether this layer deletes a path of the layers below, or replaces a folder above it."""
        return self.whiteouts.hides(path, self._is_not_folder)

    def _is_not_folder(self, path: str) -> bool:
        return path in self.files and self.files[path].kind != "folder"


def read_archive(
    chunks: Iterable[bytes],
    name: str,
    *,
    check_stop: Callable[[], None] = lambda: None,
    known: MutableMapping[str, LayerContents] | None = None,
) -> ImageContents:
    """Read an image from the archive of `docker image save`. Raise `ToolError` with its `name` if it is not one.

    `check_stop` is called for each file and may raise. `known` has layers by the digest of their unpacked bytes. These
    are not read again; the others are added.
    """
    layers = {} if known is None else known

    def read(diff_id: str, content: IO[bytes]) -> LayerContents:
        if not diff_id:
            return read_layer(content, check_stop)
        if diff_id not in layers:
            layers[diff_id] = read_layer(content, check_stop)
        return layers[diff_id]

    saved = read_saved_image(chunks, name, read)
    return merge_layers(saved.config, saved.layers)


def read_layer(stream: IO[bytes], check_stop: Callable[[], None] = lambda: None) -> LayerContents:
    """Read one layer, compressed or not. Raise `tarfile.TarError` if it is not an archive.

    `check_stop` is called for each file and may raise.
    """
    layer = LayerContents()
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for path, entry in layer_entries(archive, layer.whiteouts):
            if path:  # the root itself has no name
                check_stop()
                layer.files[path] = _file_entry(archive, entry, path, layer)
    return layer


def merge_layers(config: bytes, layers: Iterable[LayerContents]) -> ImageContents:
    """Return the contents of an image with this configuration and these layers, the oldest first."""
    parsed = json.loads(config)
    files: dict[str, FileEntry] = {}
    debs: dict[str, str] = {}
    for layer in layers:
        files = {path: file for path, file in files.items() if not layer.hides(path)} | layer.files
        debs = layer.debs or debs
    return ImageContents(
        id=f"sha256:{hashlib.sha256(config).hexdigest()}",
        config=parsed,
        layers=tuple(parsed["rootfs"]["diff_ids"]),
        files=files,
        packages=dict(sorted((debs | _other_packages(files)).items())),
    )


def _file_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, layer: LayerContents) -> FileEntry:
    if entry.islnk():
        return layer.files[normalize_path(entry.linkname)]
    content = b""
    if entry.isreg():
        content_hash, stream = hashlib.sha256(), cast(IO[bytes], archive.extractfile(entry))
        if path == _DPKG_STATUS:
            text = stream.read()
            content_hash.update(text)
            layer.debs.update(_installed_debs(text.decode(errors="replace")))
        while chunk := stream.read(_CHUNK_SIZE):
            content_hash.update(chunk)
        content = content_hash.digest()
    return FileEntry(
        kind=_kind(entry),
        mode=entry.mode,
        owner=(entry.uid, entry.gid),
        size=entry.size if entry.isreg() else 0,
        content=content,
        target=f"{entry.devmajor}:{entry.devminor}" if entry.isdev() else entry.linkname,
        attributes=tuple(sorted((k, v) for k, v in entry.pax_headers.items() if k.startswith(_XATTR_PREFIX))),
        time=entry.mtime,
    )


def _kind(entry: tarfile.TarInfo) -> str:
    kinds = {"file": entry.isreg(), "folder": entry.isdir(), "link": entry.issym(), "pipe": entry.isfifo()}
    return next((kind for kind, matches in kinds.items() if matches), "device")


def _installed_debs(status: str) -> Iterator[tuple[str, str]]:
    """Yield name and version of the installed packages in dpkg's status file."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            yield f"deb {fields['Package']}:{fields.get('Architecture', '')}", fields.get("Version", "")


def _other_packages(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Return the Python distributions with their versions, and the digest of the rpm database."""
    from packaging.utils import canonicalize_name

    found: dict[str, set[str]] = {}
    for path, file in files.items():
        match = _PYTHON_DISTRIBUTION.search(path)
        if match and file.kind == "file":
            name, _, version = match["name"].partition("-")
            found.setdefault(f"pypi {canonicalize_name(name)}", set()).add(version)
        elif _RPM_DATABASE.match(path) and file.content:
            # A binary database: images count as having the same packages only if all its bytes are the same.
            found.setdefault("rpm database", set()).add(file.content.hex())
    return {name: " ".join(sorted(versions)) for name, versions in found.items()}
