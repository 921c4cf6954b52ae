import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import IO

import pytest

from rlimages.emulator.job import JobStatus
from rlimages.emulator.training_job import FAILURE, MODEL, TrainingJob, TrainingResult
from rlimages.emulator.training_runner import run_training_job
from rlimages.errors import FactoryError, ToolError
from rlimages.system.context import RunContext
from rlimages.system.process import Stop


class FakeHost:
    """A host that records the archives and signals it gets. It exits with `code`, or waits for a signal."""

    def __init__(self, name: str, code: int | None = 0, lines: tuple[str, ...] = (), **options: object) -> None:
        self.name = name
        self.code = code
        """Its own exit code; None if it waits for a signal."""
        self.lines = lines
        self.start_error = str(options.get("start_error", ""))
        self.ignores_sigterm = bool(options.get("ignores_sigterm"))
        self.error = options.get("error")
        self.out_of_memory = bool(options.get("out_of_memory"))
        self.files: dict[str, str] = dict(options.get("files", {}))
        self.signals: list[str] = []
        self.unpacked: list[str] = []
        self._ended = Event()

    def unpack(self, archive: IO[bytes]) -> None:
        with tarfile.open(fileobj=archive) as files:
            self.unpacked = files.getnames()

    def start(self) -> str:
        return self.start_error

    def follow(self, on_line: Callable[[str], None]) -> int:
        for line in self.lines:
            on_line(line)
        if isinstance(self.error, Exception):
            raise self.error
        if self.code is None:
            assert self._ended.wait(10)
            return 137 if self.signals[-1] == "SIGKILL" else 0
        return self.code

    def send_signal(self, signal: str) -> None:
        self.signals.append(signal)
        if signal == "SIGKILL" or not self.ignores_sigterm:
            self._ended.set()

    def ran_out_of_memory(self) -> bool:
        return self.out_of_memory

    def read_archive(self, path: str) -> Iterator[bytes] | None:
        if path not in self.files:
            return None
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo("model/m" if path == MODEL else "failure")
            entry.size = len(self.files[path])
            archive.addfile(entry, io.BytesIO(self.files[path].encode()))
        return iter([stream.getvalue()])


class FakeSite:
    """Hosts that are open from the start of a job to its end."""

    def __init__(self, *hosts: FakeHost) -> None:
        self.hosts = hosts
        self.is_open = False

    @contextmanager
    def open_hosts(self) -> Iterator[tuple[FakeHost, ...]]:
        self.is_open = True
        try:
            yield self.hosts
        finally:
            self.is_open = False


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, lines: list[str], stop: Stop) -> Callable[..., TrainingResult]:
    def run(*hosts: FakeHost, max_run: float = 60.0) -> TrainingResult:
        context = RunContext(environ={}, stop=stop, note=lines.append)
        job = TrainingJob(name="j", image="i", region="us-west-2", program="", code={}, parameters={}, instance_count=len(hosts), environment={}, max_run=max_run)  # fmt: skip
        site = FakeSite(*hosts)
        try:
            return run_training_job(job, site.open_hosts(), tmp_path, context=context, on_line=lambda host, line: lines.append(f"{host}: {line}"), grace=0.3)  # fmt: skip
        finally:
            assert not site.is_open

    return run


@pytest.fixture
def stop() -> Stop:
    return Stop()


def test_a_job_is_completed_if_all_hosts_exit_with_0(run, lines) -> None:
    result = run(FakeHost("algo-1", lines=("a", "b")), FakeHost("algo-2"))
    assert (result.status, result.reason, result.codes) == (JobStatus.COMPLETED, "", {"algo-1": 0, "algo-2": 0})
    assert lines == ["algo-1: a", "algo-1: b"]


def test_each_host_gets_its_folders_and_configuration(run) -> None:
    host = FakeHost("algo-1")
    run(host)
    assert {"opt/ml/model", "opt/ml/code", "opt/ml/input/config/resourceconfig.json"} <= set(host.unpacked)


def test_the_first_host_that_fails_ends_the_job(run, lines) -> None:
    other = FakeHost("algo-1", code=None)
    result = run(other, FakeHost("algo-2", code=3, files={FAILURE: "the reason"}))
    assert (result.status, result.reason, result.failure) == (JobStatus.FAILED, "algo-2 failed: exit code 3", "the reason")  # fmt: skip
    assert other.signals == ["SIGTERM"]
    assert lines == ["algo-2 failed: exit code 3; sending SIGTERM to algo-1"]


def test_the_time_limit_ends_a_host_after_another_has_exited_with_0(run, stop, lines) -> None:
    slow = FakeHost("algo-2", code=None, ignores_sigterm=True)
    result = run(FakeHost("algo-1"), slow, max_run=0.3)
    assert result.reason == "the job ran longer than --max-run, 0.3 s"
    assert result.status is JobStatus.FAILED
    assert slow.signals == ["SIGTERM", "SIGKILL"]


def test_stopping_a_failed_job_kills_the_other_hosts_at_once(run, stop, lines) -> None:
    class StoppingHost(FakeHost):
        """A host whose first signal makes the user stop the job."""

        def send_signal(self, signal: str) -> None:
            super().send_signal(signal)
            stop.set()

    host = StoppingHost("algo-1", code=None, ignores_sigterm=True)
    result = run(host, FakeHost("algo-2", code=1))
    assert result.reason == "algo-2 failed: exit code 1"
    assert lines[-1] == "the job was stopped; sending SIGKILL to algo-1"


def test_a_stopped_job_is_stopped_even_if_its_hosts_exit_with_0(run, stop) -> None:
    stop.set()
    host = FakeHost("algo-1", code=None)
    result = run(host)
    assert (result.status, host.signals) == (JobStatus.STOPPED, ["SIGTERM"])


def test_the_reason_of_a_host_without_memory_is_out_of_memory(run) -> None:
    assert run(FakeHost("algo-1", code=137, out_of_memory=True)).reason == "algo-1 failed: out of memory"


def test_a_host_that_cannot_start_fails_the_job(run) -> None:
    result = run(FakeHost("algo-1", start_error="train: not found"))
    assert (result.status, result.reason) == (JobStatus.FAILED, "algo-1 cannot start train: train: not found")


def test_an_error_while_the_log_is_read_is_raised(run) -> None:
    with pytest.raises(ToolError, match="gone"):
        run(FakeHost("algo-1", error=ToolError("gone")))


def test_a_failed_job_has_its_model_and_its_reason(run, tmp_path) -> None:
    run(FakeHost("algo-1", code=1, files={MODEL: "half"}))
    assert (tmp_path / "failure").read_text() == "algo-1 failed: exit code 1"
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.getnames() == ["m"]


def test_results_that_cannot_be_written_are_an_error_before_anything_starts(run, tmp_path) -> None:
    (tmp_path / "model.tar.gz").mkdir()
    host = FakeHost("algo-1")
    with pytest.raises(FactoryError, match=r"cannot write results to .*: Is a directory"):
        run(host)
    assert not host.unpacked


def test_the_failure_file_of_an_older_job_is_removed(run, tmp_path) -> None:
    (tmp_path / "failure").write_text("older")
    run(FakeHost("algo-1"))
    assert not (tmp_path / "failure").exists()


def test_a_host_that_never_stops_printing_can_be_stopped(run, stop, lines) -> None:
    class PrintingHost(FakeHost):
        def follow(self, on_line: Callable[[str], None]) -> int:
            while not self._ended.is_set():
                on_line("noise")
            return 0

    stop.set()
    assert run(PrintingHost("algo-1", code=None)).status is JobStatus.STOPPED
