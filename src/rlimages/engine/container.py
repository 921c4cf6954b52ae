"""Run one program in a confined container: no network, read-only files, limited memory."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlimages.system.process import ProgramResult, Stop

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


CHECKS_FOLDER = "/checks"
"""Path in the container at which the folder with the program is mounted."""
CONTAINER_HOST = "algo-1"
"""Host name of the container: SageMaker names the first host of a training job like this."""
CANNOT_START = 125
"""Exit code for a container that cannot be started; `docker run` uses the same."""
_ONE_STREAM = ("sh", "-c", 'exec "$@" 2>&1', "sh")
"""Sends standard error to standard output: Docker records them as two streams, and their order is lost.

The last line that the program prints is its reason, so the order matters.
"""
_POLL_SECONDS = 0.1
"""Seconds between two checks of the time limit and of `stop`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerRun:
    """The result of one program that was run in a container."""

    process: ProgramResult
    last_line: str = ""
    """The last line of the program's output that is not empty; empty if it printed nothing."""
    error: str = ""
    """Reason why the container did not start, or was killed for its memory; empty if neither happened."""


def run_confined(
    client: "DockerClient",
    image: str,
    argv: Sequence[str],
    *,
    folder: Path,
    log: Path,
    labels: Mapping[str, str],
    memory: int,
    timeout: float,
    stop: Stop,
) -> ContainerRun:
    """Run the program `argv` in a new container of `image` without network, and append its output to `log`.

    The image's own entrypoint starts the program. `folder` is mounted read-only at /checks. The container has
    `labels`, and is always removed at the end. It is killed if it needs more than `memory` bytes, after `timeout`
    seconds, or when `stop` is set. If it cannot be created or started, the result has the exit code 125 and the
    engine's message; no error of the engine is raised.
    """
    started = time.monotonic()
    try:
        options = _create_options(folder, labels, memory)
        container = client.containers.create(image, [*_ONE_STREAM, *argv], **options)
    except engine_errors() as error:
        return _not_started(error, started)
    try:
        container.start()
        return _watch(container, log, started, timeout, stop)
    except engine_errors() as error:
        return _not_started(error, started)
    finally:
        with suppress(*engine_errors()):
            container.remove(force=True, v=True)


def engine_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that the Docker client raises when the engine refuses a request or stops answering."""
    from docker.errors import DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    # A lost connection is an error of requests, or of urllib3 while a stream is read: the client wraps neither.
    return DockerException, RequestException, HTTPError


def _create_options(folder: Path, labels: Mapping[str, str], memory: int) -> dict[str, Any]:
    """Return the options of the Docker client for a container without network.

    `folder` is mounted read-only at /checks. The container gets `labels`, and may use `memory` bytes.
    """
    from docker.types import LogConfig

    return {
        "labels": dict(labels),
        "network_mode": "none",
        "hostname": CONTAINER_HOST,
        "extra_hosts": {CONTAINER_HOST: "127.0.0.1"},
        "volumes": {str(folder.resolve()): {"bind": CHECKS_FOLDER, "mode": "ro"}},
        "mem_limit": memory,
        # Docker's default is 64 MB; Ray falls back to files on disk if /dev/shm is that small.
        "shm_size": memory // 4,
        "pids_limit": 8192,
        # The logs of some other drivers cannot be read back.
        "log_config": LogConfig(type=LogConfig.types.JSON),
    }


def _watch(container: "Container", log: Path, started: float, timeout: float, stop: Stop) -> ContainerRun:
    """Append the output of `container`, which was started already, to `log` until it ends, and return the result.

    `started` is the time of `time.monotonic` at which the run began. The container is killed `timeout` seconds after
    it, or when `stop` is set.
    """
    tail: deque[bytes] = deque(maxlen=64)
    output_ended = threading.Event()

    def follow() -> None:
        try:
            # If the stream breaks, the exit code below still gives the result.
            with log.open("ab") as file, suppress(*engine_errors()):
                for chunk in container.logs(stream=True, follow=True):
                    file.write(chunk)
                    file.flush()
                    tail.append(chunk)
        finally:
            output_ended.set()

    threading.Thread(target=follow, daemon=True).start()
    timed_out = cancelled = False
    while not output_ended.wait(_POLL_SECONDS):
        timed_out = time.monotonic() - started > timeout
        cancelled = stop.is_set() and not timed_out
        if timed_out or cancelled:
            container.kill()
            output_ended.wait(5)
            break
    code = int(container.wait(timeout=30)["StatusCode"])
    container.reload()
    out_of_memory = container.attrs["State"].get("OOMKilled") and not (timed_out or cancelled)
    return ContainerRun(
        process=ProgramResult(code=code, seconds=time.monotonic() - started, timed_out=timed_out, cancelled=cancelled),
        last_line=_last_line(b"".join(tail)),
        error="killed: it needed more memory than its limit" if out_of_memory else "",
    )


def _last_line(tail: bytes) -> str:
    """Return the last line of `tail`, the end of a program's output, that is not empty; or an empty string."""
    lines = (line.strip() for line in reversed(tail.decode("utf-8", errors="replace").splitlines()))
    return next(filter(None, lines), "")


def _not_started(error: Exception, started: float) -> ContainerRun:
    """Return the result of a container that the engine could not create or start, because of `error`.

    It has the exit code 125, the seconds since `started` (a time of `time.monotonic`), and the first line of the
    engine's message.
    """
    message = str(getattr(error, "explanation", None) or error).strip()
    process = ProgramResult(code=CANNOT_START, seconds=time.monotonic() - started)
    return ContainerRun(process=process, error=message.splitlines()[0] if message else type(error).__name__)
