"""`rlimages serve`: run an endpoint on this machine as SageMaker would."""

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.emulator.containers import open_endpoint
from rlimages.emulator.endpoint import (
    PORT,
    STARTUP_TIMEOUT,
    Endpoint,
    EndpointState,
    EndpointStatus,
    require_bind_label,
)
from rlimages.emulator.endpoint_runner import run_endpoint
from rlimages.emulator.job import make_job_name, parse_gpus, parse_pairs
from rlimages.emulator.model_server import ping_server
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import Engine
from rlimages.errors import Interrupted, JobError
from rlimages.project.lookup import find_image
from rlimages.system.context import RunContext
from rlimages.system.units import format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """The options of `rlimages serve`, as given on the command line.

    The constructor raises `JobError` if the model does not exist, or is a folder that contains a model.tar.gz.
    """

    image: str
    """An image of the local store, or the id of a cell."""
    model: Path | None = None
    """A model.tar.gz, or a folder with the content of one; None for no model."""
    environment: tuple[str, ...] = ()
    """Environment variables as NAME=VALUE."""
    gpus: str | None = None
    """A number of GPUs, or `all`; None for no GPU."""
    port: int = PORT
    """Port of this machine; 0 for a free port."""
    bind_to: int | None = None
    """Port on which the container has to listen; None for 8080."""
    startup: float = STARTUP_TIMEOUT
    """Largest number of seconds until the first successful ping."""
    region: str
    is_batch: bool = False
    """True for the container of a batch transform job."""

    def __post_init__(self) -> None:
        """Raise `JobError` if the model does not exist, or is a folder that contains a model.tar.gz."""
        if self.model is not None and not self.model.exists():
            raise JobError(f"--model {self.model}: there is no such archive or folder")
        # Most likely the output folder of a training job. As a model it would be the archive inside a folder.
        if self.model is not None and (self.model / "model.tar.gz").is_file():
            raise JobError(
                f"--model {self.model}: the folder contains a model.tar.gz; use {self.model / 'model.tar.gz'}"
            )


def serve(
    options: ServeOptions,
    *,
    matrix: Path | None,
    context: RunContext,
    on_line: Callable[[str], None],
    on_state: Callable[[Endpoint, EndpointState], None],
) -> tuple[Endpoint, EndpointState]:
    """Run the endpoint of `options` until it fails or is stopped. Returns the endpoint and its last state.

    `matrix` is the file in which the id of a cell is looked up; None stands for the nearest build_matrix.yaml at or
    above the current folder. `on_line` gets each line of the container's log, `on_state` each state but the last.
    Containers, networks and volumes of commands that were killed are removed first, and `context.note` gets a line
    about each. Raises `FactoryError` if an option is invalid, the image is missing, or the engine fails.
    """
    name = make_job_name(options.image, datetime.now(UTC), os.getpid())
    engine = DockerEngine(run=name, stop=context.stop)
    try:
        endpoint = prepare_endpoint(options, name, engine, matrix, context)
        state = run_endpoint(
            endpoint,
            open_endpoint(engine, endpoint),
            ping=ping_server,
            context=context,
            on_line=on_line,
            on_state=lambda state: on_state(endpoint, state),
        )
    except KeyboardInterrupt:
        raise Interrupted(f"{name} was killed; its container was removed") from None
    finally:
        engine.close()
    return endpoint, state


def prepare_endpoint(
    options: ServeOptions, name: str, engine: DockerEngine, matrix: Path | None, context: RunContext
) -> Endpoint:
    """Return the endpoint `name` that `options` describe; remove first what killed commands left on `engine`.

    `context.note` gets a line about each removed object. The image is looked up on the engine, and as the id of a cell
    in `matrix` (None for the nearest build_matrix.yaml). Raises `FactoryError` if an option is invalid, the image is
    missing, or the engine fails.
    """
    for removed in engine.remove_orphans():
        context.note(removed)
    return make_endpoint(options, name, find_image(options.image, engine, matrix, Path.cwd()), engine)


def make_endpoint(options: ServeOptions, name: str, image: str, engine: Engine) -> Endpoint:
    """Return the endpoint `name` with the local image `image` and the settings of `options`.

    `engine` reads the image's labels. Raises `JobError` for invalid values, and for a port of the container that the
    image's labels do not allow.
    """
    endpoint = Endpoint(
        name=name,
        image=image,
        region=options.region,
        model=options.model,
        environment=parse_pairs(options.environment, "--env"),
        gpus=parse_gpus(options.gpus),
        port=options.port,
        bind_to=options.bind_to,
        startup=options.startup,
        is_batch=options.is_batch,
    )
    inspected = engine.inspect(image)
    require_bind_label(inspected.labels if inspected else {}, endpoint)
    return endpoint


def endpoint_exit_code(state: EndpointState) -> int:
    """Return the exit code of `rlimages serve` for the last state of an endpoint.

    It is 0 if the endpoint was stopped while it was in service, 130 if it was stopped before its first successful ping,
    and 1 if it failed or was unhealthy when it was stopped.
    """
    if state.status is EndpointStatus.STOPPED and state.previous is EndpointStatus.IN_SERVICE:
        return 0
    was_starting = state.status is EndpointStatus.STOPPED and state.previous is EndpointStatus.CREATING
    return Interrupted.exit_code if was_starting else 1


def endpoint_lines(endpoint: Endpoint, state: EndpointState) -> Iterator[str]:
    """Yield lines of text about `state`: the status, and how to send a request or why the endpoint failed."""
    summary = f"{endpoint.name}: {state.status} after {format_duration(state.seconds)}"
    if state.status is EndpointStatus.IN_SERVICE:
        yield f"{summary} at {state.address}"
        if state.previous is not EndpointStatus.UNHEALTHY:
            argv = ["curl", "--data-binary", "@request.json", "-H", "Content-Type: application/json"]
            yield f"try: {shlex.join([*argv, f'{state.address}/invocations'])}"
            yield "or:  rlimages invoke request.json"
        return
    was_stopped = state.status is EndpointStatus.STOPPED
    yield summary if was_stopped else f"{summary}: {state.reason}"
    if state.last_lines and not was_stopped:
        yield "last lines of its log:"
        yield from (f"  | {line}" for line in state.last_lines)


def endpoint_facts(endpoint: Endpoint, state: EndpointState) -> dict[str, Any]:
    """Return `endpoint` and `state` as the JSON object of `rlimages serve --json`."""
    return {
        "endpoint": endpoint.name,
        "image": endpoint.image,
        "status": state.status,
        "reason": state.reason,
        "address": state.address,
        "seconds": round(state.seconds, 3),
        "last": list(state.last_lines) if state.status is not EndpointStatus.IN_SERVICE else [],
    }
