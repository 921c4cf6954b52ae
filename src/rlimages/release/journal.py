"""Write and read the journal of a release: one JSON line for each event.

An event is on disk before the step that it announces. So a release can be resumed or rolled back after any
interruption, also by another process.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from rlimages.errors import FactoryError, SelectionError
from rlimages.release.model import ReleaseItem

JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """First event: the target and the images of a release."""

    target: str
    items: tuple[ReleaseItem, ...]
    source: str = ""
    """Target that the images are promoted from; empty if they come from the local store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The digest that a tag had when the release started. The tag is moved only if it still has this digest."""

    registry: str
    cell: str
    tag: str
    digest: str | None
    """None if the tag did not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """An image was uploaded and read back by its digest. No tag of the matrix points at it yet."""

    registry: str
    cell: str
    repository: str
    """Full name in the registry, with the target's prefix."""
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementChecked:
    """The result of one requirement of the target for one image."""

    registry: str
    cell: str
    requirement: str
    """`scan`, `signature` or `contents` (the SBOM)."""
    passed: bool
    detail: str
    """What was found, or who signed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moving:
    """A tag is about to move. A rollback gives it back the digest `before`."""

    registry: str
    cell: str
    tag: str
    before: str | None
    """None if the tag did not exist."""
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """All tags were moved and read back."""

    registry: str
    digests: Mapping[str, str]
    """Cell -> digest of its manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """All moves of the release were undone."""

    registry: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTagLeft:
    """A temporary tag could not be removed after the release. `rlimages gc` removes it."""

    registry: str
    cell: str
    tag: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The release stopped in one registry."""

    registry: str
    reason: str


RegistryEvent = Expected | Staged | RequirementChecked | Moving | Released | RolledBack | RunTagLeft | Failed
"""An event that belongs to one registry."""
JournalEvent = Started | RegistryEvent
_Event = TypeVar("_Event", bound=JournalEvent)

# The names on disk are part of the file format. Journals of earlier versions must stay readable: a release may be
# resumed or rolled back by a newer version than the one that started it.
_EVENT_NAMES: Mapping[type[JournalEvent], str] = {
    Started: "release",
    Expected: "expected",
    Staged: "staged",
    RequirementChecked: "demanded",
    Moving: "moving",
    Released: "released",
    RolledBack: "rolled back",
    RunTagLeft: "left",
    Failed: "failed",
}
_EVENT_TYPES: Mapping[str, type[JournalEvent]] = {name: kind for kind, name in _EVENT_NAMES.items()}
_FIELD_KEYS = {"registry": "place", "requirement": "demand", "detail": "said"}
"""Field -> key on disk, where the two differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One event, with the time at which it was written."""

    at: str
    """ISO 8601, UTC."""
    event: JournalEvent


def encode_entry(entry: JournalEntry) -> str:
    """Return an entry as one line of JSON, without a line end."""
    event = entry.event
    values = {_FIELD_KEYS.get(field.name, field.name): getattr(event, field.name) for field in fields(event)}
    if isinstance(event, Started):
        values = {"target": event.target, "source": event.source, "items": [_encode_item(i) for i in event.items]}
    return json.dumps({"at": entry.at, "event": _EVENT_NAMES[type(event)], **values}, ensure_ascii=False)


def decode_entry(line: str | bytes) -> JournalEntry | None:
    """Return the entry of one line. Return None for an event that this version does not know.

    Raises `ValueError` for a line that is not JSON, and for an entry without the keys of its event.
    """
    values = json.loads(line)
    try:
        kind = _EVENT_TYPES.get(values["event"])
        if kind is None:
            return None
        arguments: dict[str, Any] = {}
        for field in fields(kind):
            key = _FIELD_KEYS.get(field.name, field.name)
            if key in values or field.default is MISSING:
                arguments[field.name] = values[key]
        if kind is Started:
            arguments["items"] = tuple(_decode_item(item) for item in arguments["items"])
        return JournalEntry(at=values["at"], event=kind(**arguments))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not an entry of a journal: {error!r}") from error


def _encode_item(item: ReleaseItem) -> dict[str, Any]:
    return {
        "cell": item.cell,
        "repository": item.repository,
        "image": item.image,
        "tags": list(item.tags),
        "build": item.build,
    }


def _decode_item(values: Mapping[str, Any]) -> ReleaseItem:
    return ReleaseItem(
        cell=values["cell"],
        repository=values["repository"],
        image=values["image"],
        tags=tuple(values["tags"]),
        build=values.get("build", ""),  # journals of the first version do not have it
    )


class Journal:
    """The journal of one release. May be used by several threads. A power cut loses at most the last line."""

    def __init__(self, path: Path) -> None:
        """Read the journal at `path`, or start an empty one. Raises `FactoryError` if it cannot be read."""
        self.path = path
        self._lock = Lock()
        self._entries = list(_read_entries(path))

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """All entries, the oldest first."""
        with self._lock:
            return tuple(self._entries)

    def write(self, event: JournalEvent) -> None:
        """Add an event; it is on disk when this returns. Raises `FactoryError` if it cannot be written."""
        entry = JournalEntry(at=datetime.now(UTC).isoformat(timespec="milliseconds"), event=event)
        line = encode_entry(entry) + "\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise FactoryError(
                    f"{self.path}: cannot write the journal: {error.strerror}; no tag is moved"
                ) from error
            self._entries.append(entry)

    def find(self, kind: type[_Event], **values: object) -> list[_Event]:
        """Return the events of one type whose fields equal these values, the oldest first."""
        events = (entry.event for entry in self.entries)
        return [
            event
            for event in events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in values.items())
        ]


def _read_entries(path: Path) -> Iterator[JournalEntry]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise FactoryError(f"{path}: cannot read the journal: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = decode_entry(line)
        except ValueError:
            if number < len(lines):
                raise FactoryError(f"{path}:{number}: this is not the journal of a release") from None
            continue  # the empty string after the last line end, or a line that a power cut left incomplete
        if entry is not None:
            yield entry


@dataclass(frozen=True, kw_only=True)
class Release:
    """The images of one release, and its journal. The same for all registries of the target."""

    name: str
    """Start time and process id; also the name of the folder of its journal."""
    target: str
    items: tuple[ReleaseItem, ...]
    journal: Journal
    source: str = ""
    """Target that the images are promoted from; empty if they come from the local store."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Ids of its cells."""
        return tuple(item.cell for item in self.items)

    @property
    def folder(self) -> Path:
        """The folder of the journal, which also gets SBOMs and the log of cosign."""
        return self.journal.path.parent


def start_release(folder: Path, target: str, items: Iterable[ReleaseItem], source: str = "") -> Release:
    """Start a release and its journal, in a new folder below `folder`."""
    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    journal = Journal(folder / name / JOURNAL_FILE)
    release = Release(name=name, target=target, items=tuple(items), journal=journal, source=source)
    journal.write(Started(target=target, items=release.items, source=source))
    return release


def reopen_release(folder: Path, name: str) -> Release:
    """Read an earlier release from its journal; `latest` is the newest.

    Raises `SelectionError` if there is none with this name, or if its journal has no complete line.
    """
    known = sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL_FILE}"))
    if not known or (name != "latest" and name not in known):
        raise SelectionError(
            f"there is no release '{name}' in {folder}" + (f"; the newest is {known[-1]}" if known else "")
        )
    chosen = known[-1] if name == "latest" else name
    journal = Journal(folder / chosen / JOURNAL_FILE)
    started = next(iter(journal.find(Started)), None)
    if started is None:
        raise SelectionError(
            f"{journal.path}: the journal is empty, so release {chosen} changed nothing; publish again"
        )
    return Release(name=chosen, target=started.target, items=started.items, journal=journal, source=started.source)
