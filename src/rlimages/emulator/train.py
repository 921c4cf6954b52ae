"""`rlimages train`: run a training job on this machine as SageMaker would."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.emulator.containers import open_hosts
from rlimages.emulator.job import make_job_name, parse_gpus, parse_pairs
from rlimages.emulator.metrics import Metrics
from rlimages.emulator.training_job import CODE, Channel, InputMode, TrainingJob, TrainingResult
from rlimages.emulator.training_runner import run_training_job
from rlimages.engine.docker import DockerEngine
from rlimages.errors import Interrupted, JobError
from rlimages.project.lookup import find_image
from rlimages.project.state import current_state_folder
from rlimages.system.context import RunContext
from rlimages.system.units import format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """The options of `rlimages train`, as given on the command line."""

    image: str
    """An image of the local store, or the id of a cell."""
    entry_point: str | None = None
    """The script, relative to `source_dir` if that is set; None if the image trains without a script of the user."""
    source_dir: Path | None = None
    """Folder that becomes /opt/ml/code; None to copy only the script."""
    dependencies: tuple[Path, ...] = ()
    """Files and folders that are copied beside the script."""
    parameters: tuple[str, ...] = ()
    """Hyperparameters as NAME=VALUE."""
    channels: tuple[str, ...] = ()
    """Channels of input data as NAME=PATH."""
    input_mode: str = "File"
    """`File`, `Pipe` or `Mount`, for all channels."""
    instance_count: int = 1
    gpus: str | None = None
    """A number of GPUs, or `all`; None for no GPU."""
    environment: tuple[str, ...] = ()
    """Environment variables as NAME=VALUE."""
    output: Path | None = None
    """Folder for model.tar.gz, output.tar.gz and `failure`; None for a new folder below `.rlimages/jobs`."""
    max_run: float
    """Time limit of the job in seconds."""
    checkpoints: Path | None = None
    """Folder that is copied to /opt/ml/checkpoints and back; None for no checkpoints."""
    metrics: tuple[str, ...] = ()
    """Metrics as NAME=REGEX; the first group of the regular expression is the value."""
    region: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """A training job that has ended: the job, its result, its metrics, and the folder with its output."""

    job: TrainingJob
    result: TrainingResult
    metrics: Metrics
    output: Path


def train(
    options: TrainOptions, *, matrix: Path | None, context: RunContext, on_line: Callable[[str], None]
) -> TrainingRun:
    """Run the training job of `options` to its end, and write its results to a folder.

    A job that fails is a result, not an exception. `matrix` is the file in which the id of a cell is looked up; None
    stands for the nearest build_matrix.yaml at or above the current folder. `on_line` gets each line of the log; with
    several hosts, the host's name comes before the line. Containers, networks and volumes of commands that were killed
    are removed first, and `context.note` gets a line about each. Raises `FactoryError` if an option is invalid, the
    image is missing, the folder cannot be written, or the engine fails.
    """
    name = make_job_name(options.image, datetime.now(UTC), os.getpid())
    metrics = Metrics(parse_pairs(options.metrics, "--metric").items())
    engine = DockerEngine(run=name, stop=context.stop)
    try:
        for removed in engine.remove_orphans():
            context.note(removed)
        job = make_training_job(options, name, find_image(options.image, engine, matrix, Path.cwd()))
        output = options.output or current_state_folder().jobs / name

        def process_line(host: str, line: str) -> None:
            metrics.read_line(line)
            on_line(f"{host} | {line}" if job.instance_count > 1 else line)

        result = run_training_job(job, open_hosts(engine, job), output, context=context, on_line=process_line)
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its containers were removed, with their results") from None
    finally:
        engine.close()
    return TrainingRun(job=job, result=result, metrics=metrics, output=output)


def make_training_job(options: TrainOptions, name: str, image: str) -> TrainingJob:
    """Return the job `name` with the local image `image` that `options` describe.

    Raises `JobError` for files that do not exist and for values that CreateTrainingJob refuses.
    """
    channels = parse_pairs(options.channels, "--channel")
    return TrainingJob(
        name=name,
        image=image,
        region=options.region,
        program=_program(options),
        code=_code_files(options),
        parameters=parse_pairs(options.parameters, "-p"),
        channels=tuple(_make_channel(channel, Path(path), options.input_mode) for channel, path in channels.items()),
        instance_count=options.instance_count,
        environment=parse_pairs(options.environment, "--env"),
        gpus=parse_gpus(options.gpus),
        max_run=options.max_run,
        checkpoints=options.checkpoints,
    )


def training_lines(run: TrainingRun) -> Iterator[str]:
    """Yield lines of text about a job: its status, the reason, its metrics and the folders with its results."""
    result = run.result
    summary = f"{run.job.name}: {result.status} after {format_duration(result.seconds)}"
    yield f"{summary}: {result.reason}" if result.reason else summary
    if result.failure:
        yield result.failure.rstrip("\n")
    yield from run.metrics.lines()
    yield f"results: {run.output}"
    if run.job.checkpoints is not None:
        yield f"checkpoints: {run.job.checkpoints}"


def training_facts(run: TrainingRun) -> dict[str, Any]:
    """Return `run` as the JSON object of `rlimages train --json`.

    A metric value that is not finite becomes null, as JSON has no NaN.
    """
    job, result = run.job, run.result
    files = {name: run.output / name for name in ("model.tar.gz", "output.tar.gz", "failure")}
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
            for name, values in run.metrics.values.items()
        },
        "output": str(run.output),
        "files": {name: str(path) for name, path in files.items() if path.exists()},
        "checkpoints": None if job.checkpoints is None else str(job.checkpoints),
    }


def _program(options: TrainOptions) -> str:
    """Return the path of the entry point relative to /opt/ml/code; an empty string if the options have no entry point.

    With a source folder it is the path in that folder, without one only the file's name. Raises `JobError` if the file
    does not exist, or if there are a source folder or dependencies but no entry point.
    """
    if options.entry_point is None:
        if options.source_dir or options.dependencies:
            raise JobError("--source-dir and --dependency need an --entry-point")
        return ""
    folder = options.source_dir or Path()
    if not (folder / options.entry_point).is_file():
        raise JobError(f"--entry-point {options.entry_point}: there is no such file in {folder.resolve()}")
    return options.entry_point if options.source_dir else Path(options.entry_point).name


def _code_files(options: TrainOptions) -> dict[str, Path]:
    """Return the code of the user: absolute path in the container -> file or folder of this machine to copy.

    Dependencies are copied beside the entry point, under their own names, as the SageMaker SDK does. The mapping is
    empty if the options have no entry point.
    """
    if options.entry_point is None:
        return {}
    script = Path(options.entry_point)
    code = {CODE: options.source_dir} if options.source_dir else {f"{CODE}/{script.name}": script}
    return code | {f"{CODE}/{path.resolve().name}": path for path in options.dependencies}


def _make_channel(name: str, path: Path, mode: str) -> Channel:
    """Return the channel `name` with the data at `path`, in the input mode `mode`.

    Raises `JobError` if `path` is missing.
    """
    if not path.exists():
        raise JobError(f"--channel {name}: {path} does not exist")
    return Channel(name=name, source=path.resolve(), is_file=path.is_file(), mode=InputMode(mode))
