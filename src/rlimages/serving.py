"""An endpoint on this machine, from its wishes to its end; and the invocation of one that runs."""

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages import endpoint as endpoints
from rlimages import hosting, invocation
from rlimages import job as jobs
from rlimages.engine import Engine
from rlimages.errors import Interrupted, JobError, ToolError, UsageError
from rlimages.hosting import Endpoint
from rlimages.invocation import Answer
from rlimages.job_engine import JobEngine
from rlimages.job_results import EndpointState, EndpointStatus
from rlimages.lookup import find_image
from rlimages.report import duration
from rlimages.shell import Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the command line says about an endpoint."""

    image: str
    """An image of the local store, or the id of a cell."""
    model: Path | None = None
    environment: tuple[str, ...] = ()
    gpus: str | None = None
    port: int = hosting.PORT
    bind_to: int | None = None
    startup: float = hosting.STARTUP
    region: str
    is_batch: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and not self.model.exists():
            raise JobError(f"--model {self.model}: there is no such archive or folder")
        if self.model is not None and (self.model / "model.tar.gz").is_file():
            raise JobError(f"--model {self.model}: in this folder is a model.tar.gz; say {self.model / 'model.tar.gz'}")


def run(
    wishes: Wishes,
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
    name = jobs.make_name(wishes.image, datetime.now(UTC), os.getpid())
    engine = JobEngine(run=name, stop=stop)
    try:
        endpoint = prepare(wishes, name, engine, matrix, on_note)
        state = endpoints.serve(
            endpoint,
            engine,
            ping=invocation.ping,
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


def prepare(
    wishes: Wishes, name: str, engine: JobEngine, matrix: Path | None, on_note: Callable[[str], None]
) -> Endpoint:
    """Remove what dead processes left, and decide everything about an endpoint. Raises `FactoryError`."""
    for note in engine.cleanup():
        on_note(note)
    return make_endpoint(wishes, name, find_image(wishes.image, engine, matrix, Path.cwd()), engine)


def make_endpoint(wishes: Wishes, name: str, image: str, engine: Engine) -> Endpoint:
    """Decide everything about an endpoint. Raises `JobError` naming what is not there or can't be."""
    endpoint = Endpoint(
        name=name,
        image=image,
        region=wishes.region,
        model=wishes.model,
        environment=jobs.pairs(wishes.environment, "--env"),
        gpus=jobs.gpus(wishes.gpus),
        port=wishes.port,
        bind_to=wishes.bind_to,
        startup=wishes.startup,
        is_batch=wishes.is_batch,
    )
    local = engine.inspect(image)
    hosting.insist_on_bind(local.labels if local else {}, endpoint)
    return endpoint


def exit_code(state: EndpointState) -> int:
    """0 when it was stopped in service, 130 when it was stopped before, 1 when it failed or was not healthy."""
    if state.status is EndpointStatus.STOPPED and state.before is EndpointStatus.IN_SERVICE:
        return 0
    early = state.status is EndpointStatus.STOPPED and state.before is EndpointStatus.CREATING
    return Interrupted.exit_code if early else 1


def lines(endpoint: Endpoint, state: EndpointState) -> Iterator[str]:
    """A change of an endpoint, for people: what it is now and why, and what helps next."""
    said = f"{endpoint.name}: {state.status} after {duration(state.seconds)}"
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


def facts(endpoint: Endpoint, state: EndpointState) -> dict[str, Any]:
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


def read(file: Path) -> bytes:
    """What a file holds. Raises `JobError` where it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise JobError(f"{file} cannot be read: {error.strerror}") from error


def invoke(word: str | None, body: bytes, *, content_type: str, accept: str | None) -> tuple[str, Answer]:
    """The address that was invoked, and its answer. Raises `UsageError`, `ToolError`, `InvocationError`."""
    if len(body) > hosting.PAYLOAD:
        raise UsageError(
            f"the request has {len(body)} bytes, and SageMaker takes {hosting.PAYLOAD}; rlimages transform takes more"
        )
    address = invocation.address_of(word, _running(word))
    with invocation.Server(address, timeout=hosting.INVOCATION) as server:
        return address, server.invoke(body, content_type=content_type, accept=accept)


def answer_facts(address: str, answer: Answer) -> dict[str, Any]:
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
