"""A batch transform job from its wishes to its result: a container, the files through it, its end."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages import batch, endpoint, hosting, invocation, transform
from rlimages import job as jobs
from rlimages.batch import Asked, Strategy
from rlimages.errors import Interrupted, JobError
from rlimages.job_engine import JobEngine
from rlimages.job_results import EndpointState, EndpointStatus, JobStatus, TransformedFile, TransformResult
from rlimages.report import duration
from rlimages.serving import Wishes as Serving
from rlimages.serving import prepare
from rlimages.shell import Stop
from rlimages.transform import Source, Wanted

TRANSFORMS = Path(".rlimages/transforms")
"""Below the current folder: where outputs go that were sent nowhere else."""
EXIT_CODES = {JobStatus.COMPLETED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: Interrupted.exit_code}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
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
    def asked(self) -> Asked:
        """What it says about requests. Raises `JobError` where that can't be."""
        strategy = None if self.strategy is None else Strategy(self.strategy)
        by_line = self.split_type == "Line"
        return Asked(by_line=by_line, strategy=strategy, payload=self.payload, concurrent=self.concurrent)


@dataclass(frozen=True, kw_only=True, slots=True)
class Transformed:
    """How a job went, and where its outputs are."""

    name: str
    result: TransformResult
    output: Path


def run(
    wishes: Wishes,
    serving: Serving,
    *,
    matrix: Path | None,
    stop: Stop,
    on_line: Callable[[str], None],
    on_file: Callable[[TransformedFile], None],
    on_note: Callable[[str], None],
) -> Transformed:
    """Run a job; `on_file` hears of each file as it is done. A job that fails is a result. Raises `FactoryError`."""
    files = find(wishes)
    name = jobs.make_name(serving.image, datetime.now(UTC), os.getpid())
    engine = JobEngine(run=name, stop=stop)
    done: list[TransformedFile] = []
    try:
        served = prepare(serving, name, engine, matrix, on_note)
        served = replace(served, environment={**wishes.asked.variables, **served.environment})
        output = wishes.output or TRANSFORMS / name
        transform.clear(files, output)

        def hear(file: TransformedFile) -> None:
            done.append(file)
            on_file(file)

        def work(address: str, ended: Stop) -> None:
            with invocation.Server(address, timeout=hosting.PING) as server:
                how = batch.decide(wishes.asked, server.execution_parameters())
            wanted = Wanted(accept=wishes.accept, by_line=wishes.assemble_with == "Line", retries=wishes.retries)
            with invocation.Server(address, timeout=wishes.timeout) as server:
                transform.transform(
                    files, server, output, how=how, wanted=wanted, stop=ended, on_file=hear, on_note=on_note
                )

        began = time.monotonic()
        state = endpoint.serve(
            served,
            engine,
            ping=invocation.ping,
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
    result = judge(state, files, tuple(done), time.monotonic() - began)
    return Transformed(name=name, result=result, output=output)


def find(wishes: Wishes) -> tuple[Source, ...]:
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
    return transform.sources(wishes.source, lambda name: hosting.content_type(name, wishes.content_type))


def judge(
    state: EndpointState, files: tuple[Source, ...], done: tuple[TransformedFile, ...], seconds: float
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


def line(file: TransformedFile) -> str:
    """What became of a file, for people."""
    if file.reason:
        return f"failed: {file.reason}"
    return f"{file.name} -> {file.output}: {_count(file.records, 'record')}"


def lines(transformed: Transformed) -> Iterator[str]:
    """The end of a job, for people: how, why, and where its outputs are."""
    result = transformed.result
    after = f"{transformed.name}: {result.status} after {duration(result.seconds)}"
    yield f"{after}: {result.reason}" if result.reason else after
    if result.last:
        yield "its container printed last:"
        yield from (f"  | {said}" for said in result.last)
    passed = [file for file in result.files if not file.reason]
    records = sum(file.records for file in passed)
    yield f"outputs: {_count(len(passed), 'file')}, {_count(records, 'record')} in {transformed.output}"


def facts(transformed: Transformed) -> dict[str, Any]:
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
