import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from rlimages.emulator.data import CheckpointSync, pack_checkpoints
from rlimages.errors import FactoryError


class FakeHost:
    """A host with files in /opt/ml/checkpoints: name -> content; their time is 1000."""

    def __init__(self, files: dict[str, bytes] | None) -> None:
        self.files = files

    def fetch(self, path: str):
        assert path == "/opt/ml/checkpoints"
        if self.files is None:
            return None
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(f"checkpoints/{name}")
                entry.size, entry.mtime = len(content), 1000
                archive.addfile(entry, io.BytesIO(content))
            link = tarfile.TarInfo("checkpoints/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return iter([stream.getvalue()])


def kept(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_into_the_hosts_as_anyones(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a").write_text("1")
    (tmp_path / "deep/a").chmod(0o600)
    with pack_checkpoints(tmp_path) as stream, tarfile.open(fileobj=stream) as archive:
        assert {entry.name: entry.mode for entry in archive} == {
            "opt/ml/checkpoints/deep": 0o777,
            "opt/ml/checkpoints/deep/a": 0o666,
        }


def test_a_folder_that_is_not_there_yet_is_made(tmp_path) -> None:
    with pack_checkpoints(tmp_path / "new") as stream, tarfile.open(fileobj=stream) as archive:
        assert archive.getnames() == []
    assert (tmp_path / "new").is_dir()


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FactoryError, match=r"cannot copy the checkpoints of .*file"):
        pack_checkpoints(tmp_path / "file")


def test_at_the_end_everything_is_kept_but_links(tmp_path) -> None:
    CheckpointSync([FakeHost({"a": b"1", "deep/b": b"2"})], tmp_path).keep()
    assert kept(tmp_path) == {"a": b"1", "deep/b": b"2"}
    assert (tmp_path / "a").stat().st_mtime == 1000
    assert not (tmp_path / "link").is_symlink()


def test_of_two_hosts_the_first_has_its_way(tmp_path) -> None:
    CheckpointSync([FakeHost({"a": b"1"}), FakeHost({"a": b"2", "b": b"3"}), FakeHost(None)], tmp_path).keep()
    assert kept(tmp_path) == {"a": b"1", "b": b"3"}


def test_what_a_job_deletes_stays(tmp_path) -> None:
    (tmp_path / "old").write_text("old")
    CheckpointSync([FakeHost({})], tmp_path).keep()
    assert kept(tmp_path) == {"old": b"old"}


def test_a_name_that_leads_out_is_not_written(tmp_path) -> None:
    CheckpointSync([FakeHost({"../evil": b"1"})], tmp_path / "in").keep()
    assert not (tmp_path / "evil").exists()


def test_checkpoints_are_kept_while_the_job_runs_and_only_what_is_new(tmp_path) -> None:
    host = FakeHost({"a": b"1", "b": b"2"})
    (tmp_path / "b").write_text("x")  # as large and as new as the host's: it is taken for the same
    os.utime(tmp_path / "b", (1000, 1000))
    with CheckpointSync([host], tmp_path, pause=0.01):
        until = time.monotonic() + 5
        while not (tmp_path / "a").exists() and time.monotonic() < until:
            time.sleep(0.01)
    assert kept(tmp_path) == {"a": b"1", "b": b"x"}


def test_a_copy_that_fails_on_the_way_is_tried_again(tmp_path) -> None:
    class Moving(FakeHost):
        """Its files change while they are read, the first time."""

        def fetch(self, path: str):
            whole = b"".join(super().fetch(path))
            self.fetch = super().fetch
            return iter([whole[:700]])

    with CheckpointSync([Moving({"a": b"1" * 2000})], tmp_path, pause=0.01):
        until = time.monotonic() + 5
        while not (tmp_path / "a").exists() and time.monotonic() < until:
            time.sleep(0.01)
    assert kept(tmp_path) == {"a": b"1" * 2000}


def test_a_copy_that_takes_too_long_is_the_last_before_the_end(tmp_path) -> None:
    class Large(FakeHost):
        """One whose archive never ends, and which hears when nobody listens any more."""

        calls = hung_up = 0

        def fetch(self, path: str):
            self.calls += 1
            try:
                yield next(super().fetch(path))[:512]
                while True:
                    time.sleep(0.01)
                    yield bytes(512 * [1])
            finally:
                self.hung_up += 1

    host = Large({"a": b"1" * 10**6})
    with CheckpointSync([host], tmp_path, pause=0.01, patience=0.05):
        until = time.monotonic() + 5
        while not host.hung_up and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
    assert (host.calls, host.hung_up, kept(tmp_path)) == (1, 1, {})


def test_without_a_folder_nothing_is_kept() -> None:
    class Never(FakeHost):
        def fetch(self, path: str):
            raise AssertionError

    with CheckpointSync([Never({})], None, pause=0.0) as keeping:
        keeping.keep()


def test_a_disk_that_is_full_is_a_sentence(tmp_path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(FactoryError, match=f"cannot write checkpoints to {tmp_path}: "):
        CheckpointSync([FakeHost({"deep/b": b"2"})], tmp_path).keep()
