"""Run a training job on this machine as SageMaker would."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

from rlimages.emulator.containers import JobEngine
from rlimages.emulator.data import CheckpointSync, pack_checkpoints, stream_channels
from rlimages.emulator.logs import LogFollower, Metrics, OnLine
from rlimages.emulator.training_job import (
    CODE,
    FAILURE,
    FOLDERS,
    MODEL,
    OUTPUT_DATA,
    Channel,
    InputMode,
    Job,
    JobResult,
    JobStatus,
    make_job_name,
    parse_gpus,
    parse_pairs,
)
from rlimages.errors import FactoryError, Interrupted, JobError
from rlimages.project.lookup import find_image
from rlimages.project.state import current_state_folder
from rlimages.system.process import Stop
from rlimages.system.tar import merge_tars, pack_tar, read_first_text
from rlimages.system.units import format_duration

GRACE = 120.0
"""Seconds that SageMaker leaves between SIGTERM and SIGKILL."""
FAILURE_CHARACTERS = 1024
"""How much of /opt/ml/output/failure becomes the job's failure reason."""


class TrainingHost(Protocol):
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


class TrainingSite(Protocol):
    """Where hosts are. A test is another site."""

    def hosts(self, job: Job) -> AbstractContextManager[Sequence[TrainingHost]]:
        """The hosts of a job, not yet started; they are gone at the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cause:
    """What ended a job before all its hosts had ended well."""

    status: JobStatus
    reason: str
    host: str = ""


def run_job(
    job: Job,
    site: TrainingSite,
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
    _store_results((), output)
    with site.hosts(job) as hosts:
        first_pipes = [channel.pipe(0) for channel in job.pipes]
        for host in hosts:
            with pack_tar(FOLDERS, job.texts(host.name), job.copies, first_pipes) as archive:
                host.put(archive)
            if job.checkpoints is not None:
                with pack_checkpoints(job.checkpoints) as archive:
                    host.put(archive)
        began = time.monotonic()
        following = LogFollower(on_line)
        with CheckpointSync(hosts, job.checkpoints) as kept:
            cause = _start(hosts, job, on_note) or _JobWatch(job, hosts, following, on_note, grace).until_all_ended(
                stop
            )
        seconds = time.monotonic() - began
        try:
            kept.keep()
        finally:
            _store_results(hosts, output)
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


def _start(hosts: Sequence[TrainingHost], job: Job, on_note: Callable[[str], None]) -> _Cause | None:
    for host in hosts:
        trouble = host.start()
        if trouble:
            return _Cause(status=JobStatus.FAILED, reason=f"{host.name} cannot start train: {trouble}", host=host.name)
    stream_channels(hosts, job.pipes, on_note)
    return None


class _JobWatch:
    """Waits for all hosts of a job, and tells them to end when there is a cause to."""

    def __init__(
        self,
        job: Job,
        hosts: Sequence[TrainingHost],
        following: LogFollower,
        on_note: Callable[[str], None],
        grace: float,
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
                    why = "stopped meanwhile" if impatient else f"{format_duration(self._grace)} later it still runs"
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
            limit = format_duration(self._job.max_run)
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


def _failure(hosts: Sequence[TrainingHost], cause: _Cause | None) -> str:
    """What the host that ended the job wrote down about it."""
    for host in hosts:
        if cause is not None and host.name == cause.host:
            found = host.fetch(FAILURE)
            return "" if found is None else read_first_text(found, FAILURE_CHARACTERS)
    return ""


def _store_results(hosts: Sequence[TrainingHost], output: Path) -> None:
    """Write what hosts have made, in the place of what an older job did. SageMaker does so however a job ended."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").unlink(missing_ok=True)
        for path, name in ((MODEL, "model.tar.gz"), (OUTPUT_DATA, "output.tar.gz")):
            found = (host.fetch(path) for host in hosts)
            merge_tars((pieces for pieces in found if pieces is not None), output / name)
    except OSError as error:
        if error.errno is None:  # the engine's client speaks so when the engine went away
            raise
        raise FactoryError(f"cannot write results to {output}: {error.strerror}") from error


EXIT_CODES = {JobStatus.COMPLETED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: Interrupted.exit_code}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """What the command line says about a job."""

    image: str
    """An image of the local store, or the id of a cell."""
    entry_point: str | None = None
    source_dir: Path | None = None
    dependencies: tuple[Path, ...] = ()
    parameters: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    input_mode: str = "File"
    instance_count: int = 1
    gpus: str | None = None
    environment: tuple[str, ...] = ()
    output: Path | None = None
    max_run: float
    checkpoints: Path | None = None
    metrics: tuple[str, ...] = ()
    region: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """How a job went, and what it left to read."""

    job: Job
    result: JobResult
    metrics: Metrics
    output: Path


def train(
    wishes: TrainOptions,
    *,
    matrix: Path | None,
    stop: Stop,
    on_line: Callable[[str], None],
    on_note: Callable[[str], None],
) -> TrainingRun:
    """Run a job and hand on what its hosts print, each line with its host's name where there are several.

    What jobs left behind whose process is dead is removed first and noted. Raises `FactoryError`.
    """
    name = make_job_name(wishes.image, datetime.now(UTC), os.getpid())
    metrics = Metrics(parse_pairs(wishes.metrics, "--metric").items())
    engine = JobEngine(run=name, stop=stop)
    try:
        for note in engine.remove_orphans():
            on_note(note)
        job = make_job(wishes, name, find_image(wishes.image, engine, matrix, Path.cwd()))
        output = wishes.output or current_state_folder().jobs / name

        def hear(host: str, line: str) -> None:
            metrics.hear(line)
            on_line(f"{host} | {line}" if job.instance_count > 1 else line)

        result = run_job(job, engine, output, stop=stop, on_line=hear, on_note=on_note)
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its containers are gone, and so is what they made") from None
    finally:
        engine.close()
    return TrainingRun(job=job, result=result, metrics=metrics, output=output)


def make_job(wishes: TrainOptions, name: str, image: str) -> Job:
    """Decide everything about a job. Raises `JobError` naming what is not there or can't be."""
    channels = parse_pairs(wishes.channels, "--channel")
    return Job(
        name=name,
        image=image,
        region=wishes.region,
        program=_program(wishes),
        code=_code(wishes),
        parameters=parse_pairs(wishes.parameters, "-p"),
        channels=tuple(_channel(channel, Path(path), wishes.input_mode) for channel, path in channels.items()),
        instance_count=wishes.instance_count,
        environment=parse_pairs(wishes.environment, "--env"),
        gpus=parse_gpus(wishes.gpus),
        max_run=wishes.max_run,
        checkpoints=wishes.checkpoints,
    )


def training_lines(trained: TrainingRun) -> Iterator[str]:
    """The end of a job, for people: how, why, its metrics, and where its results are."""
    result = trained.result
    after = f"{trained.job.name}: {result.status} after {format_duration(result.seconds)}"
    yield f"{after}: {result.reason}" if result.reason else after
    if result.failure:
        yield result.failure.rstrip("\n")
    yield from trained.metrics.lines()
    yield f"results: {trained.output}"
    if trained.job.checkpoints is not None:
        yield f"checkpoints: {trained.job.checkpoints}"


def training_facts(trained: TrainingRun) -> dict[str, Any]:
    """A job, for programs; a metric's value that is no number is null."""
    job, result = trained.job, trained.result
    made = {name: trained.output / name for name in ("model.tar.gz", "output.tar.gz", "failure")}
    return {
        "job": job.name,
        "image": job.image,
        "status": result.status,
        "reason": result.reason,
        "failure": result.failure,
        "exit_codes": dict(result.codes),
        "seconds": round(result.seconds, 3),
        "metrics": {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in trained.metrics.values.items()
        },
        "output": str(trained.output),
        "files": {name: str(path) for name, path in made.items() if path.exists()},
        "checkpoints": None if job.checkpoints is None else str(job.checkpoints),
    }


def _program(wishes: TrainOptions) -> str:
    """The entry point below /opt/ml/code: its path in the source folder, or its name where it comes alone."""
    if wishes.entry_point is None:
        if wishes.source_dir or wishes.dependencies:
            raise JobError("--source-dir and --dependency need an --entry-point")
        return ""
    folder = wishes.source_dir or Path()
    if not (folder / wishes.entry_point).is_file():
        raise JobError(f"--entry-point {wishes.entry_point}: there is no such file in {folder.resolve()}")
    return wishes.entry_point if wishes.source_dir else Path(wishes.entry_point).name


def _code(wishes: TrainOptions) -> dict[str, Path]:
    """What goes where: dependencies lie beside the entry point, under their own names."""
    if wishes.entry_point is None:
        return {}
    alone = Path(wishes.entry_point)
    own = {CODE: wishes.source_dir} if wishes.source_dir else {f"{CODE}/{alone.name}": alone}
    return own | {f"{CODE}/{path.resolve().name}": path for path in wishes.dependencies}


def _channel(name: str, path: Path, mode: str) -> Channel:
    if not path.exists():
        raise JobError(f"--channel {name}: there is no {path}")
    return Channel(name=name, source=path.resolve(), is_file=path.is_file(), mode=InputMode(mode))
