"""The journal of a release: each step is on disk before it is done, so that it can be resumed or rolled back."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from rlimages.errors import FactoryError, SelectionError
from rlimages.release.model import ReleaseItem

JOURNAL_FILE = "journal.jsonl"
Entry = Mapping[str, Any]
"""`at` (ISO 8601, UTC), `event`, and the words of that event."""


class Journal:
    """The journal of one release, for several threads. A power cut loses at most the line being written."""

    def __init__(self, path: Path) -> None:
        """Go on with the journal at `path`, or begin one."""
        self.path = path
        self._lock = Lock()
        self._entries = list(_read_entries(path))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, the oldest first."""
        with self._lock:
            return tuple(self._entries)

    def write(self, event: str, **words: Any) -> None:
        """Add one entry; it is on the disk when this returns. Raises `FactoryError` when it can't be."""
        entry = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **words}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise FactoryError(
                    f"{self.path}: cannot write the journal: {error.strerror}; nothing is moved"
                ) from error
            self._entries.append(entry)

    def told(self, event: str, **words: Any) -> Iterator[Entry]:
        """The entries of one event in which these words stand so."""
        for entry in self.entries:
            if entry["event"] == event and all(entry.get(name) == value for name, value in words.items()):
                yield entry


def _read_entries(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FactoryError(f"{path}: cannot read the journal: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise FactoryError(f"{path}:{number}: this is no journal of a release") from None
            continue  # the end of the file, or what a power cut left of a line
        yield entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What is released, wherever it goes. Read back from its journal when it is resumed."""

    name: str
    target: str
    items: tuple[ReleaseItem, ...]
    source: str = ""
    """The target that it is promoted from; without one the images are those of the local store."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Ids of its cells."""
        return tuple(item.cell for item in self.items)


def start_release(folder: Path, target: str, items: Iterable[ReleaseItem], source: str = "") -> tuple[Release, Journal]:
    """A new release, whose journal lies in a folder of its own below `folder`."""
    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    release = Release(name=name, target=target, items=tuple(items), source=source)
    book = Journal(folder / name / JOURNAL_FILE)
    told = [
        {"cell": i.cell, "repository": i.repository, "image": i.image, "tags": list(i.tags), "build": i.build}
        for i in release.items
    ]
    book.write("release", target=target, source=source, items=told)
    return release, book


def reopen_release(folder: Path, name: str) -> tuple[Release, Journal]:
    """An earlier release; `latest` is the newest. Raises `SelectionError` where there is none of that name."""
    known = sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL_FILE}"))
    if not known or (name != "latest" and name not in known):
        raise SelectionError(
            f"there is no release '{name}' in {folder}" + (f"; the newest is {known[-1]}" if known else "")
        )
    chosen = known[-1] if name == "latest" else name
    book = Journal(folder / chosen / JOURNAL_FILE)
    told: Mapping[str, Any] = next(book.told("release"), {})
    items = tuple(
        ReleaseItem(
            cell=i["cell"],
            repository=i["repository"],
            image=i["image"],
            tags=tuple(i["tags"]),
            build=i.get("build", ""),
        )
        for i in told.get("items", ())
    )
    return Release(name=chosen, target=told.get("target", ""), items=items, source=told.get("source", "")), book
