"""Read everything that an image contains: its files, packages and configuration."""

import hashlib
import io
import json
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from rlimages.errors import ToolError
from rlimages.system.tar import ChunkStream

_PIECE = 1 << 20
_SMALL = 1 << 20
"""Bytes up to which a file of the archive may be its JSON."""
_BLOBS = "blobs/sha256"
"""Where an archive has its layers, each under the digest of its bytes; engines before 25 have other names."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_DPKG = "var/lib/dpkg/status"
_RPM = re.compile(r"^(var/lib/rpm|usr/lib/sysimage/rpm)/")
_DISTRIBUTION = re.compile(r"/(?P<name>[^/]+)\.(dist-info/METADATA|egg-info/PKG-INFO|egg-info)$")
_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """What is at a path. A further name of a file (a hard link) is a file like any other."""

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
    """What an image is made of: all that two images can differ in."""

    id: str
    config: Mapping[str, Any]
    layers: tuple[str, ...]
    files: Mapping[str, FileEntry]
    """By path, without a slash at the beginning."""
    packages: Mapping[str, str]
    """`deb name:arch` or `pypi name` -> versions."""


@dataclass(frozen=True, slots=True)
class LayerContents:
    """What one layer adds and takes away."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    debs: dict[str, str] = field(default_factory=dict)
    """Of the distribution's packages, where this layer has their list."""


def read_archive(
    pieces: Iterable[bytes],
    called: str,
    *,
    check: Callable[[], None] = lambda: None,
    known: MutableMapping[str, LayerContents] | None = None,
) -> ImageContents:
    """Read an image as `docker image save` gives it; `check` is called for each path and may raise.

    `known` has layers by the digest of their unpacked bytes: those in there are not read again, the others get in.
    Raises `ToolError` naming it as `called` where that is not an image.
    """
    reader = _ArchiveReader(check, {} if known is None else known)
    try:
        with tarfile.open(fileobj=io.BufferedReader(ChunkStream(iter(pieces)), _PIECE), mode="r|") as archive:
            reader.take(archive)
        return reader.census()
    except (tarfile.TarError, EOFError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ToolError(f"{called}: what the engine saved is not an archive of an image ({error!r})") from error


def read_layer(stream: IO[bytes], check: Callable[[], None] = lambda: None) -> LayerContents:
    """Read one layer, compressed or not; `check` is called for each path and may raise.

    Raises `tarfile.TarError` for anything else.
    """
    layer = LayerContents()
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every member
            path = posixpath.normpath("/" + member.name).strip("/")
            folder, name = posixpath.split(path)
            if name == _OPAQUE:
                layer.opaque.add(folder)
            elif name.startswith(_WHITEOUT):
                layer.hidden.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
            elif path:
                check()
                layer.files[path] = _file_entry(archive, member, path, layer)
    return layer


def merge_layers(config: bytes, layers: Iterable[LayerContents]) -> ImageContents:
    """An image by its configuration and its layers, the oldest first."""
    known = json.loads(config)
    files: dict[str, FileEntry] = {}
    debs: dict[str, str] = {}
    for layer in layers:
        files = {path: file for path, file in files.items() if not _hides(layer, path)} | layer.files
        debs = layer.debs or debs
    return ImageContents(
        id=f"sha256:{hashlib.sha256(config).hexdigest()}",
        config=known,
        layers=tuple(known["rootfs"]["diff_ids"]),
        files=files,
        packages=dict(sorted((debs | _python(files)).items())),
    )


class _ArchiveReader:
    def __init__(self, check: Callable[[], None], known: MutableMapping[str, LayerContents]) -> None:
        self._check = check
        self._known = known
        self._small: dict[str, bytes] = {}
        self._layers: dict[str, LayerContents] = {}
        self._links: dict[str, str] = {}

    def take(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every member
            if member.issym() or member.islnk():  # engines before 25 save a layer once, and point at it
                target = member.linkname if member.islnk() else posixpath.join(member.name, "..", member.linkname)
                self._links[member.name] = posixpath.normpath(target)
            elif member.isfile():
                content = cast(IO[bytes], archive.extractfile(member))
                if member.size <= _SMALL:
                    self._small[member.name] = content.read()
                else:
                    self._layers[member.name] = self._read(member.name, content)

    def census(self) -> ImageContents:
        told = json.loads(self._small["manifest.json"])[0]
        return merge_layers(
            self._small[told["Config"]], [self._layer(self._links.get(name, name)) for name in told["Layers"]]
        )

    def _layer(self, name: str) -> LayerContents:
        return self._layers.get(name) or self._read(name, io.BytesIO(self._small[name]))

    def _read(self, name: str, content: IO[bytes]) -> LayerContents:
        folder, _, digest = name.rpartition("/")
        if folder != _BLOBS:
            return read_layer(content, self._check)
        if f"sha256:{digest}" not in self._known:
            self._known[f"sha256:{digest}"] = read_layer(content, self._check)
        return self._known[f"sha256:{digest}"]


def _file_entry(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, layer: LayerContents) -> FileEntry:
    if member.islnk():
        return layer.files[posixpath.normpath("/" + member.linkname).strip("/")]
    content = b""
    if member.isreg():
        hashed, stream = hashlib.sha256(), cast(IO[bytes], archive.extractfile(member))
        if path == _DPKG:
            text = stream.read()
            hashed.update(text)
            layer.debs.update(_debs(text.decode(errors="replace")))
        while piece := stream.read(_PIECE):
            hashed.update(piece)
        content = hashed.digest()
    return FileEntry(
        kind=_kind(member),
        mode=member.mode,
        owner=(member.uid, member.gid),
        size=member.size if member.isreg() else 0,
        content=content,
        target=f"{member.devmajor}:{member.devminor}" if member.isdev() else member.linkname,
        attributes=tuple(sorted((k, v) for k, v in member.pax_headers.items() if k.startswith(_XATTR))),
        time=member.mtime,
    )


def _hides(layer: LayerContents, path: str) -> bool:
    """Whether a newer layer removed a path, or put something else in its way."""
    above = tuple(_above(path))
    if not layer.hidden.isdisjoint((path, *above)) or not layer.opaque.isdisjoint(("", *above)):
        return True
    return any(folder in layer.files and layer.files[folder].kind != "folder" for folder in above)


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in, the innermost first: usr/bin, usr."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _kind(member: tarfile.TarInfo) -> str:
    kinds = {"file": member.isreg(), "folder": member.isdir(), "link": member.issym(), "pipe": member.isfifo()}
    return next((kind for kind, found in kinds.items() if found), "device")


def _debs(status: str) -> Iterator[tuple[str, str]]:
    """The installed packages of dpkg's list."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in paragraph.splitlines() if not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            yield f"deb {fields['Package']}:{fields.get('Architecture', '')}", fields.get("Version", "")


def _python(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """The Python distributions by the names of their folders; a list of rpm packages by its digest, which is strict."""
    from packaging.utils import canonicalize_name

    found: dict[str, set[str]] = {}
    for path, file in files.items():
        match = _DISTRIBUTION.search(path)
        if match and file.kind == "file":
            name, _, version = match["name"].partition("-")
            found.setdefault(f"pypi {canonicalize_name(name)}", set()).add(version)
        elif _RPM.match(path) and file.content:
            found.setdefault("rpm database", set()).add(file.content.hex())
    return {name: " ".join(sorted(versions)) for name, versions in found.items()}
