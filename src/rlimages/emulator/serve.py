"""Serve a model on this machine as SageMaker would, and invoke it."""

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.emulator.containers import JobEngine
from rlimages.emulator.endpoint import run_endpoint
from rlimages.emulator.endpoint_config import (
    INVOCATION_TIMEOUT,
    MAX_PAYLOAD,
    PORT,
    STARTUP_TIMEOUT,
    Endpoint,
    EndpointState,
    EndpointStatus,
    require_bind_label,
)
from rlimages.emulator.invoke import ModelServer, Response, ping_server, resolve_endpoint
from rlimages.emulator.training_job import make_job_name, parse_gpus, parse_pairs
from rlimages.engine.protocol import Engine
from rlimages.errors import Interrupted, JobError, ToolError, UsageError
from rlimages.project.lookup import find_image
from rlimages.system.process import Stop
from rlimages.system.units import format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """What the command line says about an endpoint."""

    image: str
    """An image of the local store, or the id of a cell."""
    model: Path | None = None
    environment: tuple[str, ...] = ()
    gpus: str | None = None
    port: int = PORT
    bind_to: int | None = None
    startup: float = STARTUP_TIMEOUT
    region: str
    is_batch: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and not self.model.exists():
            raise JobError(f"--model {self.model}: there is no such archive or folder")
        if self.model is not None and (self.model / "model.tar.gz").is_file():
            raise JobError(f"--model {self.model}: in this folder is a model.tar.gz; say {self.model / 'model.tar.gz'}")


def serve(
    wishes: ServeOptions,
    *,
    matrix: Path | None,
    stop: Stop,
    on_line: Callable[[str], None],
    on_state: Callable[[Endpoint, EndpointState], None],
    on_note: Callable[[str], None],
) -> tuple[Endpoint, EndpointState]:
    """Run an endpoint until it is stopped or fails; it, and the state that it ended in.

    What endpoints and jobs left behind whose process is dead is removed first and noted. Raises `FactoryError`.
    """
    name = make_job_name(wishes.image, datetime.now(UTC), os.getpid())
    engine = JobEngine(run=name, stop=stop)
    try:
        endpoint = prepare_endpoint(wishes, name, engine, matrix, on_note)
        state = run_endpoint(
            endpoint,
            engine,
            ping=ping_server,
            stop=stop,
            on_line=on_line,
            on_state=lambda state: on_state(endpoint, state),
            on_note=on_note,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its container is gone") from None
    finally:
        engine.close()
    return endpoint, state


def prepare_endpoint(
    wishes: ServeOptions, name: str, engine: JobEngine, matrix: Path | None, on_note: Callable[[str], None]
) -> Endpoint:
    """Remove what dead processes left, and decide everything about an endpoint. Raises `FactoryError`."""
    for note in engine.remove_orphans():
        on_note(note)
    return make_endpoint(wishes, name, find_image(wishes.image, engine, matrix, Path.cwd()), engine)


def make_endpoint(wishes: ServeOptions, name: str, image: str, engine: Engine) -> Endpoint:
    """Decide everything about an endpoint. Raises `JobError` naming what is not there or can't be."""
    endpoint = Endpoint(
        name=name,
        image=image,
        region=wishes.region,
        model=wishes.model,
        environment=parse_pairs(wishes.environment, "--env"),
        gpus=parse_gpus(wishes.gpus),
        port=wishes.port,
        bind_to=wishes.bind_to,
        startup=wishes.startup,
        is_batch=wishes.is_batch,
    )
    local = engine.inspect(image)
    require_bind_label(local.labels if local else {}, endpoint)
    return endpoint


def endpoint_exit_code(state: EndpointState) -> int:
    """0 when it was stopped in service, 130 when it was stopped before, 1 when it failed or was not healthy."""
    if state.status is EndpointStatus.STOPPED and state.before is EndpointStatus.IN_SERVICE:
        return 0
    early = state.status is EndpointStatus.STOPPED and state.before is EndpointStatus.CREATING
    return Interrupted.exit_code if early else 1


def endpoint_lines(endpoint: Endpoint, state: EndpointState) -> Iterator[str]:
    """A change of an endpoint, for people: what it is now and why, and what helps next."""
    said = f"{endpoint.name}: {state.status} after {format_duration(state.seconds)}"
    if state.status is EndpointStatus.IN_SERVICE:
        yield f"{said} at {state.address}"
        again = state.before is EndpointStatus.UNHEALTHY
        if not again:
            words = ["curl", "--data-binary", "@request.json", "-H", "Content-Type: application/json"]
            yield f"try: {shlex.join([*words, f'{state.address}/invocations'])}"
            yield "or:  rlimages invoke request.json"
        return
    stopped = state.status is EndpointStatus.STOPPED
    yield said if stopped else f"{said}: {state.reason}"
    if state.last and not stopped:
        yield "it printed last:"
        yield from (f"  | {line}" for line in state.last)


def endpoint_facts(endpoint: Endpoint, state: EndpointState) -> dict[str, Any]:
    """A change of an endpoint, for programs."""
    return {
        "endpoint": endpoint.name,
        "image": endpoint.image,
        "status": state.status,
        "reason": state.reason,
        "address": state.address,
        "seconds": round(state.seconds, 3),
        "last": list(state.last) if state.status is not EndpointStatus.IN_SERVICE else [],
    }


def read_body(file: Path) -> bytes:
    """What a file holds. Raises `JobError` where it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise JobError(f"{file} cannot be read: {error.strerror}") from error


def invoke_endpoint(word: str | None, body: bytes, *, content_type: str, accept: str | None) -> tuple[str, Response]:
    """The address that was invoked, and its answer. Raises `UsageError`, `ToolError`, `InvocationError`."""
    if len(body) > MAX_PAYLOAD:
        raise UsageError(
            f"the request has {len(body)} bytes, and SageMaker takes {MAX_PAYLOAD}; rlimages transform takes more"
        )
    address = resolve_endpoint(word, _running(word))
    with ModelServer(address, timeout=INVOCATION_TIMEOUT) as server:
        return address, server.invoke(body, content_type=content_type, accept=accept)


def answer_facts(address: str, answer: Response) -> dict[str, Any]:
    """An answer, for programs; bytes that are no UTF-8 are replaced."""
    return {
        "address": address,
        "status": answer.status,
        "content_type": answer.content_type,
        "body": answer.body.decode("utf-8", errors="replace"),
        "seconds": round(answer.seconds, 3),
    }


def _running(word: str | None) -> dict[str, str]:
    """Endpoints of this machine, asked for only where a word may mean one."""
    if word is not None and (":" in word or word.isdecimal()):
        return {}
    engine = JobEngine(run="invoke", stop=Stop())
    try:
        return dict(engine.endpoints())
    except ToolError as error:
        raise ToolError(f"{error}; or say the address with --endpoint") from error
    finally:
        engine.close()
