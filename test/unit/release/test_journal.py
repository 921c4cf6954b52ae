"""The journal of a release: its events, its file format, and releases that are read back from it."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from rlimages.errors import FactoryError, SelectionError
from rlimages.release.journal import (
    JOURNAL_FILE,
    Expected,
    Failed,
    Journal,
    JournalEntry,
    JournalEvent,
    Moving,
    Released,
    RequirementChecked,
    RolledBack,
    RunTagLeft,
    Staged,
    Started,
    decode_entry,
    encode_entry,
    reopen_release,
    start_release,
)
from rlimages.release.model import ReleaseItem

TIME = "2026-11-21T14:39:00.123+00:00"
ITEM = ReleaseItem(
    cell="vw-8.7.0-cpu", repository="sagemaker-rl-vw-container", image="sha256:c0", tags=("vw-8.7.0-cpu", "vw-8.7"),
    build="b0",
)  # fmt: skip
EVENTS: list[JournalEvent] = [
    Started(target="production", items=(ITEM,), source="pre-production"),
    Expected(registry="production/us-west-2", cell=ITEM.cell, tag="vw-8.7.0-cpu", digest=None),
    Expected(registry="production/us-west-2", cell=ITEM.cell, tag="vw-8.7", digest="sha256:d0"),
    Staged(
        registry="production/us-west-2", cell=ITEM.cell, repository="rl/sagemaker-rl-vw-container", digest="sha256:d1"
    ),
    RequirementChecked(
        registry="production/us-west-2", cell=ITEM.cell, requirement="scan", passed=True, detail="0 findings"
    ),
    Moving(registry="production/us-west-2", cell=ITEM.cell, tag="vw-8.7.0-cpu", before=None, after="sha256:d1"),
    Moving(registry="production/us-west-2", cell=ITEM.cell, tag="vw-8.7", before="sha256:d0", after="sha256:d1"),
    Released(registry="production/us-west-2", digests={ITEM.cell: "sha256:d1"}),
    RunTagLeft(registry="production/us-west-2", cell=ITEM.cell, tag="rlimages-run-1-vw", reason="timed out"),
    Failed(registry="production/eu-west-1", reason="cannot reach the registry"),
    RolledBack(registry="production/us-west-2"),
]
LINES = """\
{"at": "2026-11-21T14:39:00.123+00:00", "event": "release", "target": "production", "source": "pre-production", "items": [{"cell": "vw-8.7.0-cpu", "repository": "sagemaker-rl-vw-container", "image": "sha256:c0", "tags": ["vw-8.7.0-cpu", "vw-8.7"], "build": "b0"}]}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "expected", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "tag": "vw-8.7.0-cpu", "digest": null}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "expected", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "tag": "vw-8.7", "digest": "sha256:d0"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "staged", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "repository": "rl/sagemaker-rl-vw-container", "digest": "sha256:d1"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "demanded", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "demand": "scan", "passed": true, "said": "0 findings"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "moving", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "tag": "vw-8.7.0-cpu", "before": null, "after": "sha256:d1"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "moving", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "tag": "vw-8.7", "before": "sha256:d0", "after": "sha256:d1"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "released", "place": "production/us-west-2", "digests": {"vw-8.7.0-cpu": "sha256:d1"}}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "left", "place": "production/us-west-2", "cell": "vw-8.7.0-cpu", "tag": "rlimages-run-1-vw", "reason": "timed out"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "failed", "place": "production/eu-west-1", "reason": "cannot reach the registry"}
{"at": "2026-11-21T14:39:00.123+00:00", "event": "rolled back", "place": "production/us-west-2"}
"""
"""A journal as the version before the typed events wrote it, byte for byte."""


def write_journal(folder: Path, release: str, text: str) -> Path:
    path = folder / release / JOURNAL_FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_journal_of_an_earlier_version_is_read_event_for_event(tmp_path) -> None:
    journal = Journal(write_journal(tmp_path, "20261121T143900-7", LINES))
    assert [entry.event for entry in journal.entries] == EVENTS
    assert {entry.at for entry in journal.entries} == {TIME}


def test_events_are_written_as_an_earlier_version_wrote_them() -> None:
    lines = [encode_entry(JournalEntry(at=TIME, event=event)) for event in EVENTS]
    assert "\n".join(lines) + "\n" == LINES


def test_an_event_is_on_disk_when_write_returns_and_its_time_is_in_utc(tmp_path) -> None:
    path = tmp_path / "release" / JOURNAL_FILE
    journal = Journal(path)
    for event in EVENTS:
        journal.write(event)
        line = json.loads(path.read_text().splitlines()[-1])
        assert datetime.fromisoformat(line["at"]).utcoffset().total_seconds() == 0
    assert [entry.event for entry in Journal(path).entries] == EVENTS


def test_events_are_found_by_type_and_fields(tmp_path) -> None:
    journal = Journal(write_journal(tmp_path, "r", LINES))
    assert journal.find(Moving, registry="production/us-west-2", tag="vw-8.7") == [EVENTS[6]]
    assert journal.find(Moving) == [EVENTS[5], EVENTS[6]]
    assert journal.find(RolledBack, registry="production/eu-west-1") == []


def test_a_line_that_a_power_cut_left_incomplete_is_ignored(tmp_path) -> None:
    path = write_journal(tmp_path, "r", LINES[:-20])
    assert [entry.event for entry in Journal(path).entries] == EVENTS[:-1]


@pytest.mark.parametrize("line", ["no JSON", "7", '{"event": "staged"}', '{"at": "", "event": "failed", "place": "x"}'])
def test_any_other_line_that_is_not_an_entry_is_an_error_with_its_position(tmp_path, line) -> None:
    path = write_journal(tmp_path, "r", f"{line}\n{LINES}")
    with pytest.raises(FactoryError) as raised:
        Journal(path)
    assert str(raised.value) == f"{path}:1: this is not the journal of a release"


def test_an_event_of_a_newer_version_is_ignored() -> None:
    assert decode_entry('{"at": "2026-11-21T14:39:00+00:00", "event": "replicated", "place": "x"}') is None


def test_a_release_is_read_back_as_it_was_started(tmp_path) -> None:
    started = start_release(tmp_path, "production", [ITEM], "pre-production")
    found = reopen_release(tmp_path, started.name)
    assert (found.name, found.target, found.items, found.source) == (
        started.name, "production", (ITEM,), "pre-production",
    )  # fmt: skip
    assert found.cells == (ITEM.cell,)


def test_a_release_of_the_first_version_has_no_source_and_no_build_digests(tmp_path) -> None:
    item = {"cell": "a", "repository": "r", "image": "sha256:c0", "tags": ["1"]}
    line = {"at": TIME, "event": "release", "target": "127.0.0.1:5000", "items": [item]}
    write_journal(tmp_path, "20200101T000000-1", json.dumps(line) + "\n")
    release = reopen_release(tmp_path, "latest")
    assert (release.source, [item.build for item in release.items]) == ("", [""])


def test_latest_is_the_newest_release(tmp_path) -> None:
    for name in ("20261121T143900-7", "20261121T143901-5", "20261120T235959-9"):
        write_journal(tmp_path, name, LINES)
    assert reopen_release(tmp_path, "latest").name == "20261121T143901-5"


def test_a_release_that_does_not_exist_is_an_error_that_names_the_newest(tmp_path) -> None:
    with pytest.raises(SelectionError) as raised:
        reopen_release(tmp_path, "latest")
    assert str(raised.value) == f"there is no release 'latest' in {tmp_path}"
    write_journal(tmp_path, "20261121T143900-7", LINES)
    with pytest.raises(SelectionError) as raised:
        reopen_release(tmp_path, "x")
    assert str(raised.value) == f"there is no release 'x' in {tmp_path}; the newest is 20261121T143900-7"


def test_a_release_whose_first_line_is_incomplete_is_an_error(tmp_path) -> None:
    path = write_journal(tmp_path, "20261121T143900-7", LINES[:50])
    with pytest.raises(SelectionError) as raised:
        reopen_release(tmp_path, "latest")
    assert str(raised.value) == (
        f"{path}: the journal is empty, so release 20261121T143900-7 changed nothing; publish again"
    )
