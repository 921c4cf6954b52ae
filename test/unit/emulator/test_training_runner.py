import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import IO

import pytest

from rlimages.emulator.train import run_job
from rlimages.emulator.training_job import FAILURE, MODEL, Job, JobResult, JobStatus
from rlimages.errors import FactoryError, ToolError
from rlimages.system.process import Stop


class FakeHost:
    """A host that remembers what it was told, and ends as it was told to."""

    def __init__(self, name: str, code: int | None = 0, lines: tuple[str, ...] = (), **words: object) -> None:
        self.name = name
        self.code = code
        """What it exits with by itself; None when it waits for a signal."""
        self.lines = lines
        self.trouble = str(words.get("trouble", ""))
        self.deaf = bool(words.get("deaf"))
        self.error = words.get("error")
        self.memory = bool(words.get("memory"))
        self.files: dict[str, str] = dict(words.get("files", {}))
        self.signals: list[str] = []
        self.got: list[str] = []
        self._ended = Event()

    def put(self, archive: IO[bytes]) -> None:
        with tarfile.open(fileobj=archive) as files:
            self.got = files.getnames()

    def start(self) -> str:
        return self.trouble

    def follow(self, on_line: Callable[[str], None]) -> int:
        for line in self.lines:
            on_line(line)
        if isinstance(self.error, Exception):
            raise self.error
        if self.code is None:
            assert self._ended.wait(10)
            return 137 if self.signals[-1] == "SIGKILL" else 0
        return self.code

    def send(self, signal: str) -> None:
        self.signals.append(signal)
        if signal == "SIGKILL" or not self.deaf:
            self._ended.set()

    def starved(self) -> bool:
        return self.memory

    def fetch(self, path: str) -> Iterator[bytes] | None:
        if path not in self.files:
            return None
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo("model/m" if path == MODEL else "failure")
            entry.size = len(self.files[path])
            archive.addfile(entry, io.BytesIO(self.files[path].encode()))
        return iter([stream.getvalue()])


class FakeSite:
    def __init__(self, *hosts: FakeHost) -> None:
        self.all = hosts
        self.open = False

    @contextmanager
    def hosts(self, job: Job) -> Iterator[tuple[FakeHost, ...]]:
        self.open = True
        try:
            yield self.all
        finally:
            self.open = False


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, heard: list[str], stop: Stop) -> Callable[..., JobResult]:
    def run(*hosts: FakeHost, max_run: float = 60.0) -> JobResult:
        job = Job(name="j", image="i", region="us-west-2", program="", code={}, parameters={}, instance_count=len(hosts), environment={}, max_run=max_run)  # fmt: skip
        site = FakeSite(*hosts)
        try:
            return run_job(job, site, tmp_path, stop=stop, on_line=lambda host, line: heard.append(f"{host}: {line}"), on_note=heard.append, grace=0.3)  # fmt: skip
        finally:
            assert not site.open

    return run


@pytest.fixture
def stop() -> Stop:
    return Stop()


def test_a_job_is_completed_when_every_host_ended_well(run, heard) -> None:
    result = run(FakeHost("algo-1", lines=("a", "b")), FakeHost("algo-2"))
    assert (result.status, result.reason, result.codes) == (JobStatus.COMPLETED, "", {"algo-1": 0, "algo-2": 0})
    assert heard == ["algo-1: a", "algo-1: b"]


def test_each_host_gets_its_files_before_it_starts(run) -> None:
    host = FakeHost("algo-1")
    run(host)
    assert {"opt/ml/model", "opt/ml/code", "opt/ml/input/config/resourceconfig.json"} <= set(host.got)


def test_the_first_host_that_fails_ends_the_job(run, heard) -> None:
    other = FakeHost("algo-1", code=None)
    result = run(other, FakeHost("algo-2", code=3, files={FAILURE: "the reason"}))
    assert (result.status, result.reason, result.failure) == (JobStatus.FAILED, "algo-2 failed: exit code 3", "the reason")  # fmt: skip
    assert other.signals == ["SIGTERM"]
    assert heard == ["algo-2 failed: exit code 3; SIGTERM to algo-1"]


def test_a_host_that_ended_well_does_not_end_the_others(run, stop, heard) -> None:
    patient = FakeHost("algo-2", code=None, deaf=True)
    result = run(FakeHost("algo-1"), patient, max_run=0.3)
    assert "longer than --max-run allows, 0.3 s" in result.reason
    assert result.status is JobStatus.FAILED
    assert patient.signals == ["SIGTERM", "SIGKILL"]


def test_whoever_stops_a_job_that_has_failed_does_not_wait_for_the_others(run, stop, heard) -> None:
    class Last(FakeHost):
        def send(self, signal: str) -> None:
            super().send(signal)
            stop.set()

    deaf = Last("algo-1", code=None, deaf=True)
    result = run(deaf, FakeHost("algo-2", code=1))
    assert result.reason == "algo-2 failed: exit code 1"
    assert heard[-1] == "stopped meanwhile; SIGKILL to algo-1"


def test_a_stopped_job_is_stopped_even_if_its_hosts_end_well_then(run, stop) -> None:
    stop.set()
    host = FakeHost("algo-1", code=None)
    result = run(host)
    assert (result.status, host.signals) == (JobStatus.STOPPED, ["SIGTERM"])


def test_a_host_that_wants_too_much_memory_says_so(run) -> None:
    assert run(FakeHost("algo-1", code=137, memory=True)).reason == "algo-1 failed: memory ran out"


def test_a_host_that_cannot_start_is_an_answer(run) -> None:
    result = run(FakeHost("algo-1", trouble="train: not found"))
    assert (result.status, result.reason) == (JobStatus.FAILED, "algo-1 cannot start train: train: not found")


def test_an_engine_that_goes_away_is_an_error(run) -> None:
    with pytest.raises(ToolError, match="gone"):
        run(FakeHost("algo-1", error=ToolError("gone")))


def test_a_failed_job_keeps_its_model_and_its_reason(run, tmp_path) -> None:
    run(FakeHost("algo-1", code=1, files={MODEL: "half"}))
    assert (tmp_path / "failure").read_text() == "algo-1 failed: exit code 1"
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.getnames() == ["m"]


def test_results_that_cannot_be_written_are_noticed_before_anything_starts(run, tmp_path) -> None:
    (tmp_path / "model.tar.gz").mkdir()
    host = FakeHost("algo-1")
    with pytest.raises(FactoryError, match=r"cannot write results to .*: Is a directory"):
        run(host)
    assert not host.got


def test_an_older_reason_to_fail_is_taken_away(run, tmp_path) -> None:
    (tmp_path / "failure").write_text("older")
    run(FakeHost("algo-1"))
    assert not (tmp_path / "failure").exists()


def test_a_host_that_never_stops_printing_can_still_be_stopped(run, stop, heard) -> None:
    class Chatty(FakeHost):
        def follow(self, on_line: Callable[[str], None]) -> int:
            while not self._ended.is_set():
                on_line("noise")
            return 0

    stop.set()
    assert run(Chatty("algo-1", code=None)).status is JobStatus.STOPPED
