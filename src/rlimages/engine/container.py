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
"""Where the program finds its folder."""
CONTAINER_HOST = "algo-1"
"""What SageMaker calls the first machine of a job."""
CANNOT_START = 125
"""What the docker program exits with when a container cannot be started."""
_ONE_STREAM = ("sh", "-c", 'exec "$@" 2>&1', "sh")
"""Docker reads the two streams apart and mixes up their order; the last line must be the last."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRun:
    """How one program inside an image ended."""

    ended: ProgramResult
    last_line: str = ""
    """The last line it printed that is not empty."""
    trouble: str = ""
    """Why it could not start or was killed; empty otherwise."""


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
) -> CheckRun:
    """Run `argv` in a new container of an image, with `folder` read-only at /checks and at most `memory` bytes.

    It starts as every program of the image starts: through the image's own entrypoint. The container is removed
    whatever happens. A program that can't be started is an answer too.
    """
    started = time.monotonic()
    try:
        options = _options(folder, labels, memory)
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
    """All that the client raises when the engine refuses, or goes away in the middle of a word."""
    from docker.errors import DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    return DockerException, RequestException, HTTPError


def _options(folder: Path, labels: Mapping[str, str], memory: int) -> dict[str, Any]:
    from docker.types import LogConfig

    return {
        "labels": dict(labels),
        "network_mode": "none",
        "hostname": CONTAINER_HOST,
        "extra_hosts": {CONTAINER_HOST: "127.0.0.1"},
        "volumes": {str(folder.resolve()): {"bind": CHECKS_FOLDER, "mode": "ro"}},
        "mem_limit": memory,
        "shm_size": memory // 4,
        "pids_limit": 8192,
        "log_config": LogConfig(type=LogConfig.types.JSON),
    }


def _watch(container: "Container", log: Path, started: float, timeout: float, stop: Stop) -> CheckRun:
    """Follow a running container to its end, which comes by itself, by the clock or by `stop`."""
    tail: deque[bytes] = deque(maxlen=64)
    silent = threading.Event()

    def follow() -> None:
        try:
            with log.open("ab") as file, suppress(*engine_errors()):  # the end of the container tells what it was
                for piece in container.logs(stream=True, follow=True):
                    file.write(piece)
                    file.flush()
                    tail.append(piece)
        finally:
            silent.set()

    threading.Thread(target=follow, daemon=True).start()
    timed_out = cancelled = False
    while not silent.wait(_POLL_SECONDS):
        timed_out = time.monotonic() - started > timeout
        cancelled = stop.is_set() and not timed_out
        if timed_out or cancelled:
            container.kill()
            silent.wait(5)
            break
    code = int(container.wait(timeout=30)["StatusCode"])
    container.reload()
    starved = container.attrs["State"].get("OOMKilled") and not (timed_out or cancelled)
    return CheckRun(
        ended=ProgramResult(code=code, seconds=time.monotonic() - started, timed_out=timed_out, cancelled=cancelled),
        last_line=_last_line(b"".join(tail)),
        trouble="killed: it wanted more memory than there is" if starved else "",
    )


def _last_line(tail: bytes) -> str:
    lines = (line.strip() for line in reversed(tail.decode("utf-8", errors="replace").splitlines()))
    return next(filter(None, lines), "")


def _not_started(error: Exception, started: float) -> CheckRun:
    """What the engine says, without the client's preamble."""
    said = str(getattr(error, "explanation", None) or error).strip()
    ended = ProgramResult(code=CANNOT_START, seconds=time.monotonic() - started)
    return CheckRun(ended=ended, trouble=said.splitlines()[0] if said else type(error).__name__)
