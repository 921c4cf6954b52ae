import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from rlimages.emulator.checkpoints import CheckpointSync, pack_checkpoints
from rlimages.errors import FactoryError


class FakeHost:
    """A host with files in /opt/ml/checkpoints: name -> content. Their modification time is 1000."""

    def __init__(self, files: dict[str, bytes] | None) -> None:
        self.files = files

    def read_archive(self, path: str):
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_user_may_change_the_packed_checkpoints(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a").write_text("1")
    (tmp_path / "deep/a").chmod(0o600)
    with pack_checkpoints(tmp_path) as stream, tarfile.open(fileobj=stream) as archive:
        assert {entry.name: entry.mode for entry in archive} == {
            "opt/ml/checkpoints/deep": 0o777,
            "opt/ml/checkpoints/deep/a": 0o666,
        }


def test_a_missing_folder_is_created(tmp_path) -> None:
    with pack_checkpoints(tmp_path / "new") as stream, tarfile.open(fileobj=stream) as archive:
        assert archive.getnames() == []
    assert (tmp_path / "new").is_dir()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FactoryError, match=r"cannot copy the checkpoints in .*file: "):
        pack_checkpoints(tmp_path / "file")


def test_the_copy_at_the_end_has_all_files_but_no_links(tmp_path) -> None:
    CheckpointSync([FakeHost({"a": b"1", "deep/b": b"2"})], tmp_path).copy_all()
    assert contents(tmp_path) == {"a": b"1", "deep/b": b"2"}
    assert (tmp_path / "a").stat().st_mtime == 1000
    assert not (tmp_path / "link").is_symlink()


def test_of_two_files_with_the_same_name_that_of_the_first_host_is_kept(tmp_path) -> None:
    CheckpointSync([FakeHost({"a": b"1"}), FakeHost({"a": b"2", "b": b"3"}), FakeHost(None)], tmp_path).copy_all()
    assert contents(tmp_path) == {"a": b"1", "b": b"3"}


def test_a_file_that_the_job_deleted_stays_in_the_folder(tmp_path) -> None:
    (tmp_path / "old").write_text("old")
    CheckpointSync([FakeHost({})], tmp_path).copy_all()
    assert contents(tmp_path) == {"old": b"old"}


def test_a_name_that_points_outside_the_folder_is_not_written(tmp_path) -> None:
    CheckpointSync([FakeHost({"../evil": b"1"})], tmp_path / "in").copy_all()
    assert not (tmp_path / "evil").exists()


def test_while_the_job_runs_only_new_files_are_copied(tmp_path) -> None:
    host = FakeHost({"a": b"1", "b": b"2"})
    (tmp_path / "b").write_text("x")  # same size and time as the host's file: not copied
    os.utime(tmp_path / "b", (1000, 1000))
    with CheckpointSync([host], tmp_path, pause=0.01):
        deadline = time.monotonic() + 5
        while not (tmp_path / "a").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert contents(tmp_path) == {"a": b"1", "b": b"x"}


def test_a_copy_that_fails_while_the_job_runs_is_repeated(tmp_path) -> None:
    class ChangingHost(FakeHost):
        """A host whose archive is incomplete the first time, as if its files changed while they were read."""

        def read_archive(self, path: str):
            archive = b"".join(super().read_archive(path))
            self.read_archive = super().read_archive
            return iter([archive[:700]])

    with CheckpointSync([ChangingHost({"a": b"1" * 2000})], tmp_path, pause=0.01):
        deadline = time.monotonic() + 5
        while not (tmp_path / "a").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert contents(tmp_path) == {"a": b"1" * 2000}


def test_a_copy_that_takes_too_long_is_the_last_one_while_the_job_runs(tmp_path) -> None:
    class EndlessHost(FakeHost):
        """A host whose archive never ends. It counts the archives that were closed."""

        calls = closed = 0

        def read_archive(self, path: str):
            self.calls += 1
            try:
                yield next(super().read_archive(path))[:512]
                while True:
                    time.sleep(0.01)
                    yield bytes(512 * [1])
            finally:
                self.closed += 1

    host = EndlessHost({"a": b"1" * 10**6})
    with CheckpointSync([host], tmp_path, pause=0.01, limit=0.05):
        deadline = time.monotonic() + 5
        while not host.closed and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    assert (host.calls, host.closed, contents(tmp_path)) == (1, 1, {})


def test_without_a_folder_nothing_is_copied() -> None:
    class UnreadableHost(FakeHost):
        def read_archive(self, path: str):
            raise AssertionError

    with CheckpointSync([UnreadableHost({})], None, pause=0.0) as checkpoints:
        checkpoints.copy_all()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(FactoryError, match=f"cannot write checkpoints to {tmp_path}: "):
        CheckpointSync([FakeHost({"deep/b": b"2"})], tmp_path).copy_all()
