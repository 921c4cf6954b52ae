"""Run one training job as SageMaker would: start its hosts, show what they print, end it, and keep what it made."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from rlimages import checkpoints, pipes, tarball
from rlimages.errors import FactoryError
from rlimages.following import Following, OnLine
from rlimages.job import FAILURE, FOLDERS, MODEL, OUTPUT_DATA, Job
from rlimages.job_results import JobResult, JobStatus
from rlimages.report import duration
from rlimages.shell import Stop

GRACE = 120.0
"""Seconds that SageMaker leaves between SIGTERM and SIGKILL."""
FAILURE_CHARACTERS = 1024
"""How much of /opt/ml/output/failure becomes the job's failure reason."""


class Host(Protocol):
    """What is asked of one host."""

    name: str

    def put(self, archive: IO[bytes]) -> None:
        """Unpack an archive at `/`."""

    def start(self) -> str:
        """Start `train`; what the engine says when it can't, or nothing."""

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Hand on each line that it prints, until it ends; its exit code."""

    def send(self, signal: str) -> None:
        """Send a signal to its first process, unless it has ended."""

    def starved(self) -> bool:
        """True when the kernel ended it because memory ran out."""

    def fetch(self, path: str) -> Iterator[bytes] | None:
        """What is at a path, as an archive in pieces; None when nothing is."""

    def pour(self, pipe: str, following: str, sources: Iterable[Path]) -> bool:
        """Write files into a pipe, once somebody reads it; see `pipes.Host`."""


class Site(Protocol):
    """Where hosts are. A test is another site."""

    def hosts(self, job: Job) -> AbstractContextManager[Sequence[Host]]:
        """The hosts of a job, not yet started; they are gone at the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cause:
    """What ended a job before all its hosts had ended well."""

    status: JobStatus
    reason: str
    host: str = ""


def train(
    job: Job,
    site: Site,
    output: Path,
    *,
    stop: Stop,
    on_line: OnLine,
    on_note: Callable[[str], None] = lambda _note: None,
    grace: float = GRACE,
) -> JobResult:
    """Run a job to its end, and write model.tar.gz, output.tar.gz and, if it failed, `failure` into a folder.

    The first host that fails, `job.max_run` and `stop` end it: every host that still runs gets SIGTERM, and SIGKILL
    after `grace` seconds. A job that fails is a result, never raised. Raises `FactoryError` when the folder can't be
    written; that is tried before anything starts.
    """
    _keep((), output)
    with site.hosts(job) as hosts:
        first_pipes = [channel.pipe(0) for channel in job.pipes]
        for host in hosts:
            with tarball.pack(FOLDERS, job.texts(host.name), job.copies, first_pipes) as archive:
                host.put(archive)
            if job.checkpoints is not None:
                with checkpoints.pack(job.checkpoints) as archive:
                    host.put(archive)
        began = time.monotonic()
        following = Following(on_line)
        with checkpoints.Keeping(hosts, job.checkpoints) as kept:
            cause = _start(hosts, job, on_note) or _Watch(job, hosts, following, on_note, grace).until_all_ended(stop)
        seconds = time.monotonic() - began
        try:
            kept.keep()
        finally:
            _keep(hosts, output)
        result = JobResult(
            status=cause.status if cause else JobStatus.COMPLETED,
            reason=cause.reason if cause else "",
            failure=_failure(hosts, cause),
            codes=following.codes,
            seconds=seconds,
        )
    if result.status is JobStatus.FAILED:
        (output / "failure").write_text(result.failure or result.reason, encoding="utf-8")
    return result


def _start(hosts: Sequence[Host], job: Job, on_note: Callable[[str], None]) -> _Cause | None:
    for host in hosts:
        trouble = host.start()
        if trouble:
            return _Cause(status=JobStatus.FAILED, reason=f"{host.name} cannot start train: {trouble}", host=host.name)
    pipes.pour(hosts, job.pipes, on_note)
    return None


class _Watch:
    """Waits for all hosts of a job, and tells them to end when there is a cause to."""

    def __init__(
        self, job: Job, hosts: Sequence[Host], following: Following, on_note: Callable[[str], None], grace: float
    ) -> None:
        self._job = job
        self._hosts = {host.name: host for host in hosts}
        self._following = following
        self._codes = following.codes
        self._on_note = on_note
        self._grace = grace

    def until_all_ended(self, stop: Stop) -> _Cause | None:
        """Why the job ended; None when every host did its work."""
        began = time.monotonic()
        cause: _Cause | None = None
        kill_at = float("inf")
        self._following.begin(tuple(self._hosts.values()))
        while len(self._codes) < len(self._hosts):
            self._following.take()
            if cause is None:
                cause = self._cause(time.monotonic() - began, stop)
                if cause is not None and self._send("SIGTERM", cause.reason):
                    kill_at = time.monotonic() + self._grace
            elif kill_at < float("inf"):
                impatient = stop.is_set() and cause.status is JobStatus.FAILED
                if impatient or time.monotonic() > kill_at:
                    why = "stopped meanwhile" if impatient else f"{duration(self._grace)} later it still runs"
                    self._send("SIGKILL", why)
                    kill_at = float("inf")
        return cause or self._cause(0.0, stop)

    def _cause(self, seconds: float, stop: Stop) -> _Cause | None:
        for name, code in self._codes.items():
            if code:
                why = "memory ran out" if self._hosts[name].starved() else f"exit code {code}"
                return _Cause(status=JobStatus.FAILED, reason=f"{name} failed: {why}", host=name)
        if len(self._codes) == len(self._hosts):
            return None
        if stop.is_set():
            return _Cause(status=JobStatus.STOPPED, reason="it was stopped")
        if seconds > self._job.max_run:
            limit = duration(self._job.max_run)
            return _Cause(status=JobStatus.FAILED, reason=f"it trained longer than --max-run allows, {limit}")
        return None

    def _send(self, signal: str, why: str) -> bool:
        """True when there was anyone to send it to."""
        running = [host for name, host in self._hosts.items() if name not in self._codes]
        if running:
            self._on_note(f"{why}; {signal} to {', '.join(host.name for host in running)}")
        for host in running:
            host.send(signal)
        return bool(running)


def _failure(hosts: Sequence[Host], cause: _Cause | None) -> str:
    """What the host that ended the job wrote down about it."""
    for host in hosts:
        if cause is not None and host.name == cause.host:
            found = host.fetch(FAILURE)
            return "" if found is None else tarball.first_text(found, FAILURE_CHARACTERS)
    return ""


def _keep(hosts: Sequence[Host], output: Path) -> None:
    """Write what hosts have made, in the place of what an older job did. SageMaker does so however a job ended."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").unlink(missing_ok=True)
        for path, name in ((MODEL, "model.tar.gz"), (OUTPUT_DATA, "output.tar.gz")):
            found = (host.fetch(path) for host in hosts)
            tarball.unite((pieces for pieces in found if pieces is not None), output / name)
    except OSError as error:
        if error.errno is None:  # the engine's client speaks so when the engine went away
            raise
        raise FactoryError(f"cannot write results to {output}: {error.strerror}") from error
