"""Write and read the journal of a release: a file with one line of JSON for each event.

A decision is on disk before it takes effect. So a release can be resumed or rolled back after any interruption, also by
another process. In all events, `registry` is the name of a registry of the target (`production/us-west-2`), `cell` the
id of a cell, and a digest that of an image's manifest.
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
"""Name of the journal in the folder of its release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The first event of a journal: the target and the images of the release."""

    target: str
    """Name of the target in `targets.yaml`, or the address of a plain registry (`--to`)."""
    items: tuple[ReleaseItem, ...]
    """The images that are released, the same for all registries."""
    source: str = ""
    """Target that the images are promoted from; empty if they come from the local store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The event that records the digest of a tag at the start. The tag is moved only if it still has this digest."""

    registry: str
    cell: str
    tag: str
    digest: str | None
    """Digest of the manifest that the tag had; None if the tag did not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """The event that an image was uploaded and its manifest read back. Its tags have not been moved to it yet."""

    registry: str
    cell: str
    repository: str
    """Full name in the registry, with the target's prefix."""
    digest: str
    """Digest of the uploaded manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementChecked:
    """The event with the result of one requirement (scan, signature, SBOM) of the target for one image."""

    registry: str
    cell: str
    requirement: str
    """`scan`, `signature` or `contents` (the SBOM)."""
    passed: bool
    detail: str
    """The counts of scan findings, the fingerprint of the signing key, or the size of the SBOM, as text for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moving:
    """The event that a tag is about to move from one manifest to another. A rollback moves it back to `before`."""

    registry: str
    cell: str
    tag: str
    before: str | None
    """Digest of the manifest that the tag had; None if the tag did not exist."""
    after: str
    """Digest of the manifest that the tag moves to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """The event that ends a release in one registry: all tags were moved and read back."""

    registry: str
    digests: Mapping[str, str]
    """Cell id -> digest of the released manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """The event that ends a rollback in one registry: all tags have the images from before the release."""

    registry: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTagLeft:
    """The event that a run tag (temporary tag of a release) could not be removed. `rlimages gc` removes it later."""

    registry: str
    cell: str
    tag: str
    reason: str
    """The error message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The event that the release, or its rollback, stopped in one registry before the end."""

    registry: str
    reason: str
    """The error message, or `interrupted`."""


RegistryEvent = Expected | Staged | RequirementChecked | Moving | Released | RolledBack | RunTagLeft | Failed
"""An event that belongs to one registry."""
JournalEvent = Started | RegistryEvent
"""Any event of a journal."""
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
_EVENT_TYPES: Mapping[str, type[JournalEvent]] = {name: event_type for event_type, name in _EVENT_NAMES.items()}
_FIELD_KEYS = {"registry": "place", "requirement": "demand", "detail": "said"}
"""Field of an event class -> its key in the journal's JSON, for those where the two differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One line of a journal: an event, and the time at which it was written."""

    at: str
    """ISO 8601, UTC."""
    event: JournalEvent


def encode_entry(entry: JournalEntry) -> str:
    """Return `entry` as one line of JSON, without a line end. `decode_entry` reads it again."""
    event = entry.event
    values = {_FIELD_KEYS.get(field.name, field.name): getattr(event, field.name) for field in fields(event)}
    if isinstance(event, Started):
        values = {"target": event.target, "source": event.source, "items": [_encode_item(i) for i in event.items]}
    return json.dumps({"at": entry.at, "event": _EVENT_NAMES[type(event)], **values}, ensure_ascii=False)


def decode_entry(line: str | bytes) -> JournalEntry | None:
    """Return the entry that `line`, one line of a journal, encodes; None if its event is unknown to this version.

    Raises `ValueError` if the line is not JSON, or does not have the keys of its event.
    """
    values = json.loads(line)
    try:
        event_type = _EVENT_TYPES.get(values["event"])
        if event_type is None:
            return None
        arguments: dict[str, Any] = {}
        for field in fields(event_type):
            key = _FIELD_KEYS.get(field.name, field.name)
            if key in values or field.default is MISSING:
                arguments[field.name] = values[key]
        if event_type is Started:
            arguments["items"] = tuple(_decode_item(item) for item in arguments["items"])
        return JournalEntry(at=values["at"], event=event_type(**arguments))
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not an entry of a journal: {error!r}") from error


def _encode_item(item: ReleaseItem) -> dict[str, Any]:
    """Return the JSON object that stands for `item` in the journal."""
    return {
        "cell": item.cell,
        "repository": item.repository,
        "image": item.image,
        "tags": list(item.tags),
        "build": item.build,
    }


def _decode_item(values: Mapping[str, Any]) -> ReleaseItem:
    """Return the item for `values`, which `_encode_item` made. Raises `KeyError` if a key is missing."""
    return ReleaseItem(
        cell=values["cell"],
        repository=values["repository"],
        image=values["image"],
        tags=tuple(values["tags"]),
        build=values.get("build", ""),  # journals of the first version do not have it
    )


class Journal:
    """The journal of one release: its entries in memory and in a file, to which events are only added.

    May be used by several threads. A power cut loses at most the last line.
    """

    def __init__(self, path: Path) -> None:
        """Read the journal file `path`. If the file does not exist, the first `write` creates it.

        Raises `FactoryError` if it cannot be read, or a line other than an incomplete last one is not an entry.
        """
        self.path = path
        self._lock = Lock()
        self._entries = list(_read_entries(path))

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """All entries, the oldest first."""
        with self._lock:
            return tuple(self._entries)

    def write(self, event: JournalEvent) -> None:
        """Append `event`, with the current time, to the file. It is on disk when this method returns.

        Raises `FactoryError` if it cannot be written.
        """
        entry = JournalEntry(at=datetime.now(UTC).isoformat(timespec="milliseconds"), event=event)
        line = encode_entry(entry) + "\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab") as file:
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())  # a tag may move right after this, so the line must survive a power cut
            except OSError as error:
                raise FactoryError(
                    f"{self.path}: cannot write the journal: {error.strerror}; no tag is moved"
                ) from error
            self._entries.append(entry)

    def find(self, event_type: type[_Event], **values: object) -> list[_Event]:
        """Return the events of the class `event_type` whose fields have the given `values`, the oldest first.

        `find(Moving, cell="a")` returns all moves of tags of cell `a`; an empty list if there is none.
        """
        events = (entry.event for entry in self.entries)
        return [
            event
            for event in events
            if isinstance(event, event_type) and all(getattr(event, name) == value for name, value in values.items())
        ]


def _read_entries(path: Path) -> Iterator[JournalEntry]:
    """Yield the entries of the journal file `path`; none if it does not exist. An incomplete last line is ignored.

    Raises `FactoryError` if the file cannot be read, or any other line is not an entry.
    """
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
    """One release: its images, its target and its journal. All registries of the target have it in common."""

    name: str
    """Start time and process id, such as `20250131T120000-4711`; also the name of the release's folder."""
    target: str
    """Name of the target in `targets.yaml`, or the address of a plain registry (`--to`)."""
    items: tuple[ReleaseItem, ...]
    journal: Journal
    source: str = ""
    """Target that the images are promoted from; empty if they come from the local store."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The ids of the cells whose images are released."""
        return tuple(item.cell for item in self.items)

    @property
    def folder(self) -> Path:
        """The folder of the journal, which also gets SBOMs and the log of cosign."""
        return self.journal.path.parent


def start_release(folder: Path, target: str, items: Iterable[ReleaseItem], source: str = "") -> Release:
    """Return a new release of `items` to `target`, after writing its first event to a new folder below `folder`.

    `source` is the target that the images are promoted from; empty if they come from the local store. Raises
    `FactoryError` if the journal cannot be written.
    """
    # The time comes first, so that the last name in sorted order is the newest release.
    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    journal = Journal(folder / name / JOURNAL_FILE)
    release = Release(name=name, target=target, items=tuple(items), journal=journal, source=source)
    journal.write(Started(target=target, items=release.items, source=source))
    return release


def reopen_release(folder: Path, name: str) -> Release:
    """Return the release `name`, read from its journal below `folder`. The name `latest` stands for the newest release.

    Raises `SelectionError` if `folder` has no such release or its journal has no first event, and `FactoryError` if the
    journal cannot be read.
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
