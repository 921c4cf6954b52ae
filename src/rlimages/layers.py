"""What is at some paths of an image, by its layers' listings. Each layer is read once, the newest first."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_EXECUTABLE = 0o111
_HOPS = 40
"""Links followed for one path; Linux follows as many."""


class Entry(StrEnum):
    """What is at a path, its links followed."""

    PROGRAM = "program"
    """A file that may be executed."""
    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    entry: Entry | None
    """None for a link."""
    target: str = ""


class Contents:
    """Collects what is known of some paths. Takes as much memory as there are whiteouts, whatever the layers' size."""

    def __init__(self, paths: Iterable[str]) -> None:
        """`paths` are absolute."""
        self._paths = tuple(paths)
        self._wanted = {above for path in self._paths for above in (path.strip("/"), *_above(path.strip("/")))}
        self._names = {posixpath.basename(path) for path in self._paths}
        self._known: dict[str, _Known] = {}
        self._hidden: set[str] = set()
        self._opaque: set[str] = set()
        self.size = 0
        """Bytes of all files of all layers, also of those that a newer layer hides: an engine stores them all."""

    def add(self, layer: IO[bytes]) -> None:
        """Take the next older layer, an unpacked archive. Raises `tarfile.TarError` for anything else."""
        own: dict[str, _Known] = {}
        hidden: set[str] = set()
        opaque: set[str] = set()
        with tarfile.open(fileobj=layer, mode="r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps every member of the layer
                path = posixpath.normpath("/" + member.name).strip("/")
                folder, name = posixpath.split(path)
                if name == _OPAQUE:
                    opaque.add(folder)
                elif name.startswith(_WHITEOUT):
                    hidden.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
                else:
                    self.size += member.size if member.isreg() else 0
                    if (path in self._wanted or name in self._names) and not self._is_hidden(path):
                        own[path] = _read(member, folder)
        self._known = own | self._known
        self._hidden |= hidden
        self._opaque |= opaque

    def entries(self) -> Mapping[str, Entry]:
        """What is at each of the paths; those where nothing is are left out."""
        found = {path: self._resolve(path.strip("/")) for path in self._paths}
        return {path: entry for path, entry in found.items() if entry is not None}

    def _is_hidden(self, path: str) -> bool:
        """Whether a newer layer removed it, or put something else in its way."""
        above = tuple(_above(path))
        in_the_way = any(folder in self._known and self._known[folder].entry is not Entry.FOLDER for folder in above)
        return in_the_way or not self._hidden.isdisjoint((path, *above)) or not self._opaque.isdisjoint(("", *above))

    def _resolve(self, path: str) -> Entry | None:
        """Follow links. What a link leads to that nobody asked for counts as a program: a listing can't say more."""
        for _ in range(_HOPS):
            link = next((part for part in (*_above(path), path) if self._is_link(part)), None)
            if link is None:
                known = self._known.get(path)
                return known.entry if known else None
            rest = path[len(link) :].strip("/")
            target = posixpath.normpath(posixpath.join("/", self._known[link].target, rest)).strip("/")
            if not rest and target not in self._known and posixpath.basename(target) not in self._names:
                return Entry.PROGRAM
            path = target
        return None

    def _is_link(self, path: str) -> bool:
        return path in self._known and self._known[path].entry is None


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in, the outermost first: usr, usr/bin."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _read(member: tarfile.TarInfo, folder: str) -> _Known:
    if member.issym():
        return _Known(entry=None, target=posixpath.join("/", folder, member.linkname))
    if member.isdir():
        return _Known(entry=Entry.FOLDER)
    return _Known(entry=Entry.PROGRAM if member.mode & _EXECUTABLE else Entry.FILE)
