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
    """Permission bits."""
    owner: tuple[int, int]
    """Numeric ids of the user and the group."""
    size: int = 0
    """Bytes of a file; 0 for any other kind."""
    content: bytes = b""
    """SHA-256 of the content of a file; empty for any other kind."""
    target: str = ""
    """Target of a link, as the link has it; `major:minor` of a device; empty for any other kind."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Name and value of each extended attribute, such as a capability, sorted by name."""
    time: float = 0
    """Time of the last modification in seconds since 1970. It does not count as a difference of files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageContents:
    """The files, packages and configuration of an image: all in which two images can differ."""

    id: str
    """Digest (`sha256:…`) of the image configuration, which is the image's id in the engine."""
    config: Mapping[str, Any]
    """The parsed JSON of the image configuration."""
    layers: tuple[str, ...]
    """Digest (`sha256:…`) of each layer's unpacked bytes, the oldest layer first."""
    files: Mapping[str, FileEntry]
    """Path, without a slash at the beginning -> entry."""
    packages: Mapping[str, str]
    """Package -> versions that are installed, separated by spaces. A package is `deb name:arch` or `pypi name`.

    `rpm database` stands for all packages of an image with rpm; its version is the digest of the database.
    """


@dataclass(frozen=True, slots=True)
class LayerContents:
    """The files of one layer, and the paths that it deletes."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    """Path, without a slash at the beginning -> entry."""
    whiteouts: Whiteouts = field(default_factory=Whiteouts)
    debs: dict[str, str] = field(default_factory=dict)
    """`deb name:arch` -> version of all installed Debian packages; empty if the layer does not contain their list."""

    def hides(self, path: str) -> bool:
        """Return True if `path` of a layer below is not visible any more because of this layer.

        The layer deletes the path or a folder above it, or has a file in the place of one of these folders.
        """
        return self.whiteouts.hides(path, self._is_not_folder)

    def _is_not_folder(self, path: str) -> bool:
        """Return True if this layer has a file, link, device or pipe at `path`."""
        return path in self.files and self.files[path].kind != "folder"


def read_archive(
    chunks: Iterable[bytes],
    name: str,
    *,
    check_stop: Callable[[], None] = lambda: None,
    known: MutableMapping[str, LayerContents] | None = None,
) -> ImageContents:
    """Return the contents of the image in `chunks`, an archive of `docker image save`.

    `check_stop` is called for each file and may raise. `known` maps the digest of a layer's unpacked bytes to its
    contents. Layers in it are not read again, and the others are added to it. Raise `ToolError` if `chunks` are not an
    archive of an image; `name` is the image's name in the message.
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
    """Return the contents of the layer in `stream`, a tar archive that may be compressed.

    `check_stop` is called for each file and may raise. Raise `tarfile.TarError` if it is not a tar archive.
    """
    layer = LayerContents()
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for path, entry in layer_entries(archive, layer.whiteouts):
            if path:  # the root itself has no name
                check_stop()
                layer.files[path] = _file_entry(archive, entry, path, layer)
    return layer


def merge_layers(config: bytes, layers: Iterable[LayerContents]) -> ImageContents:
    """Return the contents of an image, given its configuration as JSON bytes and its `layers`, the oldest first."""
    parsed = json.loads(config)
    files: dict[str, FileEntry] = {}
    debs: dict[str, str] = {}
    for layer in layers:
        files = {path: file for path, file in files.items() if not layer.hides(path)} | layer.files
        debs = layer.debs or debs  # the status file of a layer lists all packages, those of older layers too
    return ImageContents(
        id=f"sha256:{hashlib.sha256(config).hexdigest()}",
        config=parsed,
        layers=tuple(parsed["rootfs"]["diff_ids"]),
        files=files,
        packages=dict(sorted((debs | _other_packages(files)).items())),
    )


def _file_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, layer: LayerContents) -> FileEntry:
    """Return the `FileEntry` for an entry of `archive`, with the SHA-256 of its content.

    `layer` has the entries before this one, to which a hard link may refer. If `path` is dpkg's list of installed
    packages, the packages are added to `layer`.
    """
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
    """Return the value of `FileEntry.kind` for an entry of a tar archive."""
    kinds = {"file": entry.isreg(), "folder": entry.isdir(), "link": entry.issym(), "pipe": entry.isfifo()}
    return next((kind for kind, matches in kinds.items() if matches), "device")


def _installed_debs(status: str) -> Iterator[tuple[str, str]]:
    """Yield `deb name:arch` and version of each installed package in `status`, the text of dpkg's status file."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            yield f"deb {fields['Package']}:{fields.get('Architecture', '')}", fields.get("Version", "")


def _other_packages(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Return the packages in an image's `files` that dpkg does not list, as `ImageContents.packages` has them.

    They are the Python distributions with their versions, and the rpm database with its digest.
    """
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
