"""Run a training job on its hosts: start the hosts, follow their logs, end them, and write the results.

The hosts are containers in production (`containers.open_hosts`) and fakes in tests.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from rlimages.emulator.checkpoints import CheckpointHost, CheckpointSync, pack_checkpoints
from rlimages.emulator.job import JobStatus
from rlimages.emulator.logs import LogFollower, LogSource, OnLine
from rlimages.emulator.pipe_mode import PipeHost, stream_channels
from rlimages.emulator.training_job import FAILURE, FOLDERS, MODEL, OUTPUT_DATA, TrainingJob, TrainingResult
from rlimages.errors import FactoryError
from rlimages.system.context import RunContext
from rlimages.system.tar import merge_tars, pack_tar, read_first_text
from rlimages.system.units import format_duration

GRACE = 120.0
"""Seconds between SIGTERM and SIGKILL. It is the time that StopTrainingJob gives a container to save its model."""
FAILURE_CHARACTERS = 1024
"""Number of characters of /opt/ml/output/failure that become the failure reason of the job, as on SageMaker."""
_STOPPED = "the job was stopped"
"""Reason of a job that the user stopped."""


class TrainingHost(LogSource, PipeHost, CheckpointHost, Protocol):
    """The part of a host's container that `run_training_job` uses; tests implement it with a fake."""

    def unpack(self, archive: IO[bytes]) -> None:
        """Unpack the tar archive `archive` at `/` of the container, which need not be started yet."""

    def start(self) -> str:
        """Start `train` in the container.

        Returns the engine's error message if it cannot be started, else an empty string.
        """

    def send_signal(self, signal: str) -> None:
        """Send `signal`, such as `SIGTERM`, to the first process of the container.

        Does nothing if the container has ended.
        """

    def ran_out_of_memory(self) -> bool:
        """Return True if the kernel killed a process of the container because it used too much memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _EndCause:
    """The reason why a job failed or was stopped before all its hosts had exited with 0."""

    status: JobStatus
    reason: str
    """One sentence, which becomes the reason of the result."""
    host: str = ""
    """Name of the host that failed; empty if the job ended for another reason."""


def run_training_job(
    job: TrainingJob,
    open_hosts: AbstractContextManager[Sequence[TrainingHost]],
    output: Path,
    *,
    context: RunContext,
    on_line: OnLine,
    grace: float = GRACE,
) -> TrainingResult:
    """Run `job` to its end, and write model.tar.gz, output.tar.gz and, if it failed, `failure` to the folder `output`.

    `open_hosts` creates the hosts when it is entered, and removes them at the end. `on_line` gets each line of their
    logs. The job ends early if a host fails, if it runs longer than `job.max_run`, or if `context.stop` is set. Then
    all running hosts get SIGTERM, and SIGKILL after `grace` seconds. A job that fails is a result, not an exception.
    Raises `FactoryError` if results or checkpoints cannot be copied; an `output` that cannot be written is found before
    anything starts.
    """
    _write_results((), output)  # fails now, and not after hours of training, if the folder cannot be written
    with open_hosts as hosts:
        first_pipes = [channel.pipe(0) for channel in job.pipes]
        for host in hosts:
            with pack_tar(FOLDERS, job.config_files(host.name), job.copies, first_pipes) as archive:
                host.unpack(archive)
            if job.checkpoints is not None:
                with pack_checkpoints(job.checkpoints) as archive:
                    host.unpack(archive)
        started = time.monotonic()
        logs = LogFollower(on_line)
        with CheckpointSync(hosts, job.checkpoints) as checkpoints:
            cause = _start_hosts(hosts, job, context.note)
            if cause is None:
                cause = _HostMonitor(job, hosts, logs, context, grace).wait_for_end()
        seconds = time.monotonic() - started
        try:
            checkpoints.copy_all()
        finally:
            _write_results(hosts, output)
        result = TrainingResult(
            status=cause.status if cause else JobStatus.COMPLETED,
            reason=cause.reason if cause else "",
            failure=_read_failure(hosts, cause),
            codes=logs.codes,
            seconds=seconds,
        )
    if result.status is JobStatus.FAILED:
        (output / "failure").write_text(result.failure or result.reason, encoding="utf-8")
    return result


def _start_hosts(hosts: Sequence[TrainingHost], job: TrainingJob, note: Callable[[str], None]) -> _EndCause | None:
    """Start `train` on all hosts, and then the threads that write the named pipes of Pipe mode.

    Returns the cause of failure if a host cannot be started, else None. `note` gets a line if the files of a channel
    cannot be read.
    """
    for host in hosts:
        message = host.start()
        if message:
            reason = f"{host.name} cannot start train: {message}"
            return _EndCause(status=JobStatus.FAILED, reason=reason, host=host.name)
    stream_channels(hosts, job.pipes, note)
    return None


class _HostMonitor:
    """Waits for all hosts of a running job, and sends them signals when the job has to end."""

    def __init__(
        self,
        job: TrainingJob,
        hosts: Sequence[TrainingHost],
        logs: LogFollower,
        context: RunContext,
        grace: float,
    ) -> None:
        """Watch `hosts`, which were started already, with their logs in `logs`.

        `grace` is the time in seconds between SIGTERM and SIGKILL.
        """
        self._job = job
        self._hosts = {host.name: host for host in hosts}
        self._logs = logs
        self._codes = logs.codes
        self._context = context
        self._grace = grace

    def wait_for_end(self) -> _EndCause | None:
        """Follow the logs until every host has ended.

        Returns why the job failed or was stopped; None if all exited with 0.
        """
        started = time.monotonic()
        cause: _EndCause | None = None
        kill_at = float("inf")
        self._logs.start(tuple(self._hosts.values()))
        while len(self._codes) < len(self._hosts):
            self._logs.process_events()
            if cause is None:
                cause = self._find_cause(time.monotonic() - started)
                if cause is not None and self._signal_hosts("SIGTERM", cause.reason):
                    kill_at = time.monotonic() + self._grace
            elif kill_at < float("inf"):
                # Ctrl-C while the other hosts of a failed job get their time to end: do not wait for them.
                is_impatient = self._context.stop.is_set() and cause.status is JobStatus.FAILED
                if is_impatient or time.monotonic() > kill_at:
                    grace = format_duration(self._grace)
                    self._signal_hosts("SIGKILL", _STOPPED if is_impatient else f"still running after {grace}")
                    kill_at = float("inf")
        return cause or self._find_cause(0.0)

    def _find_cause(self, seconds: float) -> _EndCause | None:
        """Return the reason for which the job has to end now; None if there is none.

        `seconds` is the time since the start of the job.
        """
        for name, code in self._codes.items():
            if code:
                why = "out of memory" if self._hosts[name].ran_out_of_memory() else f"exit code {code}"
                return _EndCause(status=JobStatus.FAILED, reason=f"{name} failed: {why}", host=name)
        if len(self._codes) == len(self._hosts):
            return None
        if self._context.stop.is_set():
            return _EndCause(status=JobStatus.STOPPED, reason=_STOPPED)
        if seconds > self._job.max_run:
            limit = format_duration(self._job.max_run)
            return _EndCause(status=JobStatus.FAILED, reason=f"the job ran longer than --max-run, {limit}")
        return None

    def _signal_hosts(self, signal: str, why: str) -> bool:
        """Send `signal` to all hosts that still run, after a note with the reason `why`.

        Returns False if no host runs.
        """
        running = [host for name, host in self._hosts.items() if name not in self._codes]
        if running:
            self._context.note(f"{why}; sending {signal} to {', '.join(host.name for host in running)}")
        for host in running:
            host.send_signal(signal)
        return bool(running)


def _read_failure(hosts: Sequence[TrainingHost], cause: _EndCause | None) -> str:
    """Return the first 1024 characters of the failure file of the host that failed, which `cause` names.

    The text is empty if no host failed or the host wrote no file.
    """
    for host in hosts:
        if cause is not None and host.name == cause.host:
            chunks = host.read_archive(FAILURE)
            return "" if chunks is None else read_first_text(chunks, FAILURE_CHARACTERS)
    return ""


def _write_results(hosts: Sequence[TrainingHost], output: Path) -> None:
    """Write the models and the output data of `hosts` to model.tar.gz and output.tar.gz in the folder `output`.

    The files of an older job, also its `failure`, are replaced or removed. SageMaker uploads models and output data
    however a job ended, so the results of a failed job are written too. Without hosts, the archives are empty. Raises
    `FactoryError` if the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").unlink(missing_ok=True)
        for path, name in ((MODEL, "model.tar.gz"), (OUTPUT_DATA, "output.tar.gz")):
            archives = (host.read_archive(path) for host in hosts)
            merge_tars((chunks for chunks in archives if chunks is not None), output / name)
    except OSError as error:
        if error.errno is None:  # the Docker client's own error, a subclass of OSError: the engine went away
            raise
        raise FactoryError(f"cannot write results to {output}: {error.strerror}") from error
