"""What a release has done so far, on disk before it does the next thing: a file of JSON lines that only grows."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from rlimages.errors import FactoryError

NAME = "journal.jsonl"

Entry = Mapping[str, Any]
"""`at` (ISO 8601, UTC), `event`, and the words of that event."""


class Journal:
    """The journal of one release, for several threads. A power cut loses at most the line being written."""

    def __init__(self, path: Path) -> None:
        """Go on with the journal at `path`, or begin one."""
        self.path = path
        self._lock = Lock()
        self._entries = list(_read(path))

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


def _read(path: Path) -> Iterator[Entry]:
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
