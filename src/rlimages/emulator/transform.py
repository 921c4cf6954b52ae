"""Run a batch transform job on this machine as SageMaker would."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.emulator.batch import BatchOptions, Strategy, TransformedFile, TransformResult, decide_settings
from rlimages.emulator.containers import JobEngine
from rlimages.emulator.endpoint import run_endpoint
from rlimages.emulator.endpoint_config import PING_TIMEOUT, EndpointState, EndpointStatus, content_type
from rlimages.emulator.invoke import ModelServer, ping_server
from rlimages.emulator.serve import ServeOptions, prepare_endpoint
from rlimages.emulator.training_job import JobStatus, make_job_name
from rlimages.emulator.transform_job import InputFile, OutputOptions, clear_outputs, input_files, run_transform
from rlimages.errors import Interrupted, JobError
from rlimages.project.state import current_state_folder
from rlimages.system.process import Stop
from rlimages.system.units import format_duration

EXIT_CODES = {JobStatus.COMPLETED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: Interrupted.exit_code}


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformOptions:
    """What the command line says about a batch transform job."""

    source: Path
    output: Path | None = None
    content_type: str | None = None
    accept: str | None = None
    split_type: str = "None"
    assemble_with: str = "None"
    strategy: str | None = None
    payload: int | None = None
    concurrent: int | None = None
    timeout: int = 600
    retries: int = 3

    @property
    def asked(self) -> BatchOptions:
        """What it says about requests. Raises `JobError` where that can't be."""
        strategy = None if self.strategy is None else Strategy(self.strategy)
        by_line = self.split_type == "Line"
        return BatchOptions(by_line=by_line, strategy=strategy, payload=self.payload, concurrent=self.concurrent)


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformRun:
    """How a job went, and where its outputs are."""

    name: str
    result: TransformResult
    output: Path


def transform(
    wishes: TransformOptions,
    serving: ServeOptions,
    *,
    matrix: Path | None,
    stop: Stop,
    on_line: Callable[[str], None],
    on_file: Callable[[TransformedFile], None],
    on_note: Callable[[str], None],
) -> TransformRun:
    """Run a job; `on_file` hears of each file as it is done. A job that fails is a result. Raises `FactoryError`."""
    files = find_inputs(wishes)
    name = make_job_name(serving.image, datetime.now(UTC), os.getpid())
    engine = JobEngine(run=name, stop=stop)
    done: list[TransformedFile] = []
    try:
        served = prepare_endpoint(serving, name, engine, matrix, on_note)
        served = replace(served, environment={**wishes.asked.variables, **served.environment})
        output = wishes.output or current_state_folder().transforms / name
        clear_outputs(files, output)

        def hear(file: TransformedFile) -> None:
            done.append(file)
            on_file(file)

        def work(address: str, ended: Stop) -> None:
            with ModelServer(address, timeout=PING_TIMEOUT) as server:
                how = decide_settings(wishes.asked, server.execution_parameters())
            wanted = OutputOptions(accept=wishes.accept, by_line=wishes.assemble_with == "Line", retries=wishes.retries)
            with ModelServer(address, timeout=wishes.timeout) as server:
                run_transform(files, server, output, how=how, wanted=wanted, stop=ended, on_file=hear, on_note=on_note)

        began = time.monotonic()
        state = run_endpoint(
            served,
            engine,
            ping=ping_server,
            stop=stop,
            on_line=on_line,
            on_state=_ignore,
            on_note=on_note,
            task=work,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its container is gone") from None
    finally:
        engine.close()
    result = transform_result(state, files, tuple(done), time.monotonic() - began)
    return TransformRun(name=name, result=result, output=output)


def find_inputs(wishes: TransformOptions) -> tuple[InputFile, ...]:
    """The files of a job. Raises `JobError` where they can't be, or where outputs would become inputs."""
    _ = wishes.asked  # bad wishes are refused before anything starts
    if not wishes.source.exists():
        raise JobError(f"--input {wishes.source}: there is no such folder or file")
    if wishes.output is not None and wishes.source.is_dir():
        source, output = wishes.source.resolve(), wishes.output.resolve()
        if output == source or source in output.parents:
            raise JobError(
                f"--output {wishes.output} is in --input {wishes.source}: the next job would take it for input"
            )
    return input_files(wishes.source, lambda name: content_type(name, wishes.content_type))


def transform_result(
    state: EndpointState, files: tuple[InputFile, ...], done: tuple[TransformedFile, ...], seconds: float
) -> TransformResult:
    """How a job ended: failed with its container or with any file, stopped before all were done, or completed."""
    failed = [file for file in done if file.reason]
    last: tuple[str, ...] = ()
    if state.status is EndpointStatus.FAILED:
        status, reason, last = JobStatus.FAILED, state.reason, state.last
    elif len(done) < len(files):
        status, reason = JobStatus.STOPPED, "it was stopped"
    elif failed:
        status, reason = JobStatus.FAILED, f"{len(failed)} of {len(files)} files could not be transformed"
    else:
        status, reason = JobStatus.COMPLETED, ""
    return TransformResult(status=status, reason=reason, files=done, seconds=seconds, last=last)


def file_line(file: TransformedFile) -> str:
    """What became of a file, for people."""
    if file.reason:
        return f"failed: {file.reason}"
    return f"{file.name} -> {file.output}: {_count(file.records, 'record')}"


def transform_lines(transformed: TransformRun) -> Iterator[str]:
    """The end of a job, for people: how, why, and where its outputs are."""
    result = transformed.result
    after = f"{transformed.name}: {result.status} after {format_duration(result.seconds)}"
    yield f"{after}: {result.reason}" if result.reason else after
    if result.last:
        yield "its container printed last:"
        yield from (f"  | {said}" for said in result.last)
    passed = [file for file in result.files if not file.reason]
    records = sum(file.records for file in passed)
    yield f"outputs: {_count(len(passed), 'file')}, {_count(records, 'record')} in {transformed.output}"


def transform_facts(transformed: TransformRun) -> dict[str, Any]:
    """A job, for programs."""
    result = transformed.result
    return {
        "job": transformed.name,
        "status": result.status,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "output": str(transformed.output),
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
        "last": list(result.last),
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ignore(_state: EndpointState) -> None:
    pass
