"""Find out whether given paths of an image are programs, files or folders, by reading its layers."""

import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO

from rlimages.oci.layers import Whiteouts, layer_entries, normalize_path, parent_folders

_EXECUTABLE = 0o111
"""Permission bits with which the owner, the group or others may execute a file."""
_MAX_LINKS = 40
"""Number of links that are followed for one path; Linux has this limit too (path_resolution(7))."""


class PathKind(StrEnum):
    """The kind of file at a path, after links are followed."""

    PROGRAM = "program"
    """A file with an execute permission."""
    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One entry of a layer at a path of interest."""

    kind: PathKind | None
    """Kind of the file or folder; None for a link."""
    link_target: str = ""
    """Absolute path that a link points to; empty for any other entry."""


class PathIndex:
    """An index of the files, folders and links at some paths of an image.

    Add all layers with `add_layer`, from the newest to the oldest, then call `kinds`. Memory grows with the number of
    whiteouts (deletions in layers) and not with the size of the layers.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Create an index without layers, which will look for the absolute `paths`."""
        self._paths = tuple(paths)
        stripped = [path.strip("/") for path in self._paths]
        self._wanted = {part for path in stripped for part in (path, *parent_folders(path))}
        # The target of a link to another folder is outside the wanted paths, but usually has the same file name.
        self._names = {posixpath.basename(path) for path in self._paths}
        self._entries: dict[str, _Entry] = {}
        self._whiteouts = Whiteouts()
        self.size = 0
        """Bytes of all files of all layers added so far.

        Files that a newer layer hides are included: an engine stores them too.
        """

    def add_layer(self, layer: IO[bytes]) -> None:
        """Add the next older layer of the image. Raise `tarfile.TarError` if `layer` is not an unpacked tar archive."""
        entries: dict[str, _Entry] = {}
        whiteouts = Whiteouts()
        with tarfile.open(fileobj=layer, mode="r|") as archive:
            for path, entry in layer_entries(archive, whiteouts):
                self.size += entry.size if entry.isreg() else 0
                folder, name = posixpath.split(path)
                if (path in self._wanted or name in self._names) and not self._is_hidden(path):
                    entries[path] = _read_entry(entry, folder)
        self._entries = entries | self._entries  # an entry of a newer layer replaces the one of this layer
        # Only now: whiteouts of a layer hide paths of older layers, and never paths of the same layer.
        self._whiteouts.update(whiteouts)

    def kinds(self) -> Mapping[str, PathKind]:
        """Return path -> kind, after links are followed. Paths that do not exist in the image are left out."""
        found = {path: self._resolve(path.strip("/")) for path in self._paths}
        return {path: kind for path, kind in found.items() if kind is not None}

    def _is_hidden(self, path: str) -> bool:
        """Return True if a newer layer, which was added before, deletes `path` or replaces a folder above it."""
        return self._whiteouts.hides(path, self._is_not_folder)

    def _is_not_folder(self, path: str) -> bool:
        """Return True if the index has a file or link at `path`."""
        return path in self._entries and self._entries[path].kind is not PathKind.FOLDER

    def _resolve(self, path: str) -> PathKind | None:
        """Return the kind of the file at `path` after links are followed; None if there is no file.

        A link whose target has a file name that is not looked for counts as a program.
        """
        for _ in range(_MAX_LINKS):
            link = next((part for part in (*parent_folders(path), path) if self._is_link(part)), None)
            if link is None:
                entry = self._entries.get(path)
                return entry.kind if entry else None
            rest = path[len(link) :].strip("/")
            target = normalize_path(posixpath.join(self._entries[link].link_target, rest))
            if not rest and target not in self._entries and posixpath.basename(target) not in self._names:
                # `python -> python3.11`: the target has a name that was not looked for when the layers were read.
                return PathKind.PROGRAM
            path = target
        return None

    def _is_link(self, path: str) -> bool:
        """Return True if the index has a link at `path`."""
        return path in self._entries and self._entries[path].kind is None


def _read_entry(entry: tarfile.TarInfo, folder: str) -> _Entry:
    """Return an entry of a layer for the index. `folder` is the folder that contains it, for targets of links."""
    if entry.issym():
        return _Entry(kind=None, link_target=posixpath.join("/", folder, entry.linkname))
    if entry.isdir():
        return _Entry(kind=PathKind.FOLDER)
    return _Entry(kind=PathKind.PROGRAM if entry.mode & _EXECUTABLE else PathKind.FILE)
