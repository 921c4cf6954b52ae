"""A training job from its wishes to its result: find the image and the files, run it, say how it went."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages import job as jobs
from rlimages.emulate import train
from rlimages.errors import Interrupted, JobError
from rlimages.job import Channel, Job, Mode
from rlimages.job_engine import JobEngine
from rlimages.job_results import JobResult, JobStatus
from rlimages.lookup import find_image
from rlimages.metric import Metrics
from rlimages.report import duration
from rlimages.shell import Stop

JOBS = Path(".rlimages/jobs")
"""Below the current folder: where results go that were sent nowhere else."""
EXIT_CODES = {JobStatus.COMPLETED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: Interrupted.exit_code}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
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
class Trained:
    """How a job went, and what it left to read."""

    job: Job
    result: JobResult
    metrics: Metrics
    output: Path


def run(
    wishes: Wishes,
    *,
    matrix: Path | None,
    stop: Stop,
    on_line: Callable[[str], None],
    on_note: Callable[[str], None],
) -> Trained:
    """Run a job and hand on what its hosts print, each line with its host's name where there are several.

    What jobs left behind whose process is dead is removed first and noted. Raises `FactoryError`.
    """
    name = jobs.make_name(wishes.image, datetime.now(UTC), os.getpid())
    metrics = Metrics(jobs.pairs(wishes.metrics, "--metric").items())
    engine = JobEngine(run=name, stop=stop)
    try:
        for note in engine.cleanup():
            on_note(note)
        job = make_job(wishes, name, find_image(wishes.image, engine, matrix, Path.cwd()))
        output = wishes.output or JOBS / name

        def hear(host: str, line: str) -> None:
            metrics.hear(line)
            on_line(f"{host} | {line}" if job.instance_count > 1 else line)

        result = train(job, engine, output, stop=stop, on_line=hear, on_note=on_note)
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its containers are gone, and so is what they made") from None
    finally:
        engine.close()
    return Trained(job=job, result=result, metrics=metrics, output=output)


def make_job(wishes: Wishes, name: str, image: str) -> Job:
    """Decide everything about a job. Raises `JobError` naming what is not there or can't be."""
    channels = jobs.pairs(wishes.channels, "--channel")
    return Job(
        name=name,
        image=image,
        region=wishes.region,
        program=_program(wishes),
        code=_code(wishes),
        parameters=jobs.pairs(wishes.parameters, "-p"),
        channels=tuple(_channel(channel, Path(path), wishes.input_mode) for channel, path in channels.items()),
        instance_count=wishes.instance_count,
        environment=jobs.pairs(wishes.environment, "--env"),
        gpus=jobs.gpus(wishes.gpus),
        max_run=wishes.max_run,
        checkpoints=wishes.checkpoints,
    )


def lines(trained: Trained) -> Iterator[str]:
    """The end of a job, for people: how, why, its metrics, and where its results are."""
    result = trained.result
    after = f"{trained.job.name}: {result.status} after {duration(result.seconds)}"
    yield f"{after}: {result.reason}" if result.reason else after
    if result.failure:
        yield result.failure.rstrip("\n")
    yield from trained.metrics.lines()
    yield f"results: {trained.output}"
    if trained.job.checkpoints is not None:
        yield f"checkpoints: {trained.job.checkpoints}"


def facts(trained: Trained) -> dict[str, Any]:
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


def _program(wishes: Wishes) -> str:
    """The entry point below /opt/ml/code: its path in the source folder, or its name where it comes alone."""
    if wishes.entry_point is None:
        if wishes.source_dir or wishes.dependencies:
            raise JobError("--source-dir and --dependency need an --entry-point")
        return ""
    folder = wishes.source_dir or Path()
    if not (folder / wishes.entry_point).is_file():
        raise JobError(f"--entry-point {wishes.entry_point}: there is no such file in {folder.resolve()}")
    return wishes.entry_point if wishes.source_dir else Path(wishes.entry_point).name


def _code(wishes: Wishes) -> dict[str, Path]:
    """What goes where: dependencies lie beside the entry point, under their own names."""
    if wishes.entry_point is None:
        return {}
    alone = Path(wishes.entry_point)
    own = {jobs.CODE: wishes.source_dir} if wishes.source_dir else {f"{jobs.CODE}/{alone.name}": alone}
    return own | {f"{jobs.CODE}/{path.resolve().name}": path for path in wishes.dependencies}


def _channel(name: str, path: Path, mode: str) -> Channel:
    if not path.exists():
        raise JobError(f"--channel {name}: there is no {path}")
    return Channel(name=name, source=path.resolve(), is_file=path.is_file(), mode=Mode(mode))
