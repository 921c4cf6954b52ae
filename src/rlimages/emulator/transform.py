"""`rlimages transform`: run a batch transform job on this machine as SageMaker would."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.emulator.containers import open_endpoint
from rlimages.emulator.endpoint import PING_TIMEOUT, EndpointState, EndpointStatus, find_content_type
from rlimages.emulator.endpoint_runner import run_endpoint
from rlimages.emulator.job import JobStatus, make_job_name
from rlimages.emulator.model_server import ModelServer, ping_server
from rlimages.emulator.serve import ServeOptions, prepare_endpoint
from rlimages.emulator.transform_job import (
    BatchStrategy,
    RequestOptions,
    TransformedFile,
    TransformResult,
    decide_settings,
)
from rlimages.emulator.transform_runner import (
    InputFile,
    OutputOptions,
    clear_outputs,
    format_count,
    input_files,
    run_transform,
)
from rlimages.engine.docker import DockerEngine
from rlimages.errors import Interrupted, JobError
from rlimages.project.state import current_state_folder
from rlimages.system.context import RunContext
from rlimages.system.process import Stop
from rlimages.system.units import format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformOptions:
    """The options of `rlimages transform` about files, requests and responses, as given on the command line."""

    source: Path
    """The input: a folder, or a single file."""
    output: Path | None = None
    """Folder for the outputs; None for a new folder below `.rlimages/transforms`."""
    content_type: str | None = None
    """Content type of all files; None to derive it from each file's extension."""
    accept: str | None = None
    """Header Accept of the requests; None to send none."""
    split_type: str = "None"
    """`Line` to send the lines of a file as records, `None` (the text) to send whole files."""
    assemble_with: str = "None"
    """`Line` to end each response with a newline in the output, else `None` (the text)."""
    strategy: str | None = None
    """BatchStrategy: `SingleRecord` or `MultiRecord`; None if the container decides."""
    payload: int | None = None
    """MaxPayloadInMB; None if the container decides."""
    concurrent: int | None = None
    """MaxConcurrentTransforms; None if the container decides."""
    timeout: int = 600
    """InvocationsTimeoutInSeconds: time limit of a request."""
    retries: int = 3
    """InvocationsMaxRetries: how many times a request is sent again at most."""

    @property
    def request_options(self) -> RequestOptions:
        """The settings of the job for its requests.

        Raises `JobError` for combinations that CreateTransformJob refuses.
        """
        return RequestOptions(
            split_lines=self.split_type == "Line",
            strategy=None if self.strategy is None else BatchStrategy(self.strategy),
            max_payload_mb=self.payload,
            max_concurrent=self.concurrent,
        )

    @property
    def output_options(self) -> OutputOptions:
        """The settings of the job for its responses."""
        return OutputOptions(accept=self.accept, end_lines=self.assemble_with == "Line", retries=self.retries)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformRun:
    """A batch transform job that has ended: its name, its result, and the folder with its outputs."""

    name: str
    result: TransformResult
    output: Path


def transform(
    options: TransformOptions,
    endpoint_options: ServeOptions,
    *,
    matrix: Path | None,
    context: RunContext,
    on_line: Callable[[str], None],
    on_file: Callable[[TransformedFile], None],
) -> TransformRun:
    """Run a batch transform job to its end, and write an output for each input file. Returns the job that has ended.

    `options` describe the files and requests, `endpoint_options` the container. `matrix` is the file in which the id of
    a cell is looked up; None stands for the nearest build_matrix.yaml at or above the current folder. `on_line` gets
    each line of the container's log, `on_file` the outcome of each file as soon as it is known. A job that fails is a
    result, not an exception. Raises `FactoryError` if an option is invalid, the image is missing, the outputs cannot be
    written, or the engine fails.
    """
    files = find_inputs(options)
    name = make_job_name(endpoint_options.image, datetime.now(UTC), os.getpid())
    engine = DockerEngine(run=name, stop=context.stop)
    transformed: list[TransformedFile] = []
    try:
        endpoint = prepare_endpoint(endpoint_options, name, engine, matrix, context)
        # The user's variables come last: they override those of SageMaker.
        endpoint = replace(endpoint, environment={**options.request_options.variables, **endpoint.environment})
        output = options.output or current_state_folder().transforms / name
        clear_outputs(files, output)

        def collect_file(file: TransformedFile) -> None:
            transformed.append(file)
            on_file(file)

        def transform_files(address: str, stop: Stop) -> None:
            with ModelServer(address, timeout=PING_TIMEOUT) as server:
                settings = decide_settings(options.request_options, server.execution_parameters())
            with ModelServer(address, timeout=options.timeout) as server:
                run_transform(
                    files,
                    server,
                    output,
                    settings=settings,
                    options=options.output_options,
                    context=replace(context, stop=stop),  # also set when the container ends by itself
                    on_file=collect_file,
                )

        started = time.monotonic()
        state = run_endpoint(
            endpoint,
            open_endpoint(engine, endpoint),
            ping=ping_server,
            context=context,
            on_line=on_line,
            on_state=_ignore_state,
            task=transform_files,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its container was removed") from None
    finally:
        engine.close()
    result = transform_result(state, files, tuple(transformed), time.monotonic() - started)
    return TransformRun(name=name, result=result, output=output)


def find_inputs(options: TransformOptions) -> tuple[InputFile, ...]:
    """Return the input files that `options` name, after all options were checked.

    Raises `JobError` for invalid options, for files that do not exist or have no known content type, and if the outputs
    would become inputs of the next job.
    """
    _ = options.request_options  # raises JobError for combinations that SageMaker refuses
    if not options.source.exists():
        raise JobError(f"--input {options.source}: there is no such folder or file")
    if options.output is not None and options.source.is_dir():
        source, output = options.source.resolve(), options.output.resolve()
        if output == source or source in output.parents:
            raise JobError(
                f"--output {options.output} is inside --input {options.source}:"
                " the next job would read the outputs as inputs"
            )
    return input_files(options.source, lambda name: find_content_type(name, options.content_type))


def transform_result(
    state: EndpointState, files: tuple[InputFile, ...], transformed: tuple[TransformedFile, ...], seconds: float
) -> TransformResult:
    """Return the result of a job from the last state of its container and the outcomes of its files.

    `files` are all input files, `transformed` the outcomes that are known; `seconds` is the duration of the job. The
    job failed if its container or any file failed. It was stopped if outcomes are missing.
    """
    failed = [file for file in transformed if file.reason]
    last_lines: tuple[str, ...] = ()
    if state.status is EndpointStatus.FAILED:
        status, reason, last_lines = JobStatus.FAILED, state.reason, state.last_lines
    elif len(transformed) < len(files):
        status, reason = JobStatus.STOPPED, "the job was stopped"
    elif failed:
        status, reason = JobStatus.FAILED, f"{len(failed)} of {len(files)} files could not be transformed"
    else:
        status, reason = JobStatus.COMPLETED, ""
    return TransformResult(status=status, reason=reason, files=transformed, seconds=seconds, last_lines=last_lines)


def file_line(file: TransformedFile) -> str:
    """Return the outcome of a file as one line of text: its output and number of records, or why it failed."""
    if file.reason:
        return f"failed: {file.reason}"
    return f"{file.name} -> {file.output}: {format_count(file.records, 'record')}"


def transform_lines(run: TransformRun) -> Iterator[str]:
    """Yield lines of text about the job of `run`: its status, the reason, and the folder with its outputs."""
    result = run.result
    summary = f"{run.name}: {result.status} after {format_duration(result.seconds)}"
    yield f"{summary}: {result.reason}" if result.reason else summary
    if result.last_lines:
        yield "last lines of the container's log:"
        yield from (f"  | {line}" for line in result.last_lines)
    passed = [file for file in result.files if not file.reason]
    records = sum(file.records for file in passed)
    yield f"outputs: {format_count(len(passed), 'file')}, {format_count(records, 'record')} in {run.output}"


def transform_facts(run: TransformRun) -> dict[str, Any]:
    """Return `run` as the JSON object of `rlimages transform --json`."""
    result = run.result
    return {
        "job": run.name,
        "status": result.status,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "output": str(run.output),
        "files": [
            {
                "name": file.name,
                "output": file.output,
                "reason": file.reason,
                "records": file.records,
                "seconds": round(file.seconds, 3),
            }
            for file in result.files
        ],
        "last": list(result.last_lines),
    }


def _ignore_state(_state: EndpointState) -> None:
    """Do nothing with a state of the container: the user sees the job, not the endpoint."""
