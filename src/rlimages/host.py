"""The hosts of a training job: containers on a network of their own that know each other by name."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rlimages import shell
from rlimages.container import engine_errors
from rlimages.errors import JobError
from rlimages.job import Job

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

KERNEL_NAME = "aws"
"""What every host of a SageMaker job says it is called: not the name by which the others know it."""
_POUR = '[ -p "$2" ] || mkfifo -m 666 "$2"; exec cat >"$1"'
_ENOUGH = 128 + signal.SIGPIPE


class ContainerHost:
    """One host, as a container."""

    def __init__(self, name: str, container: "Container") -> None:
        """`name` is that of resourceconfig.json."""
        self.name = name
        self._container = container

    def put(self, archive: IO[bytes]) -> None:
        """Unpack an archive at `/`."""
        self._container.put_archive("/", archive)

    def start(self) -> str:
        """Start its program; what the engine says when it can't, or nothing."""
        from docker.errors import APIError

        try:
            self._container.start()
        except APIError as error:
            return said(error)
        return ""

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Hand on each line that it prints, until it ends; its exit code."""
        rest = b""
        for piece in self._container.logs(stream=True, follow=True):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                on_line(_text(line))
        if rest:
            on_line(_text(rest))
        return int(self._container.wait(timeout=None)["StatusCode"])

    def send(self, signal: str) -> None:
        """Send a signal to its first process, unless it has ended."""
        from docker.errors import APIError

        with suppress(APIError):  # it ended meanwhile
            self._container.kill(signal)

    def starved(self) -> bool:
        """True when the kernel ended it because memory ran out."""
        self._container.reload()
        return bool(self._container.attrs["State"].get("OOMKilled"))

    def pour(self, pipe: str, following: str, sources: Iterable[Path]) -> bool:
        """Write files into a named pipe, once somebody reads it; the following one is there before that ends.

        True when they were read, or as much of them as was wanted; False when that can't be, as after its end.
        """
        argv = ["docker", "exec", "--interactive", str(self._container.id), "sh", "-c", _POUR, "sh", pipe, following]
        return shell.pour(argv, sources) in (0, _ENOUGH)

    def fetch(self, path: str) -> Iterator[bytes] | None:
        """What is at a path, as an archive in pieces; None when nothing is."""
        from docker.errors import NotFound

        try:
            pieces: Iterator[bytes] = self._container.get_archive(path)[0]
        except NotFound:
            return None
        return pieces


@contextmanager
def open_hosts(client: "DockerClient", job: Job, labels: Mapping[str, str]) -> Iterator[tuple[ContainerHost, ...]]:
    """Create the containers of a job and their network; whatever happens, they are removed at the end.

    Raises `JobError` when the engine refuses one.
    """
    from docker.errors import APIError

    network = client.networks.create(job.name, driver="bridge", labels=dict(labels))
    hosts: list[ContainerHost] = []
    containers: list[Container] = []
    try:
        common = common_options(client, job.gpus)
        for name in job.hosts:
            options = {**common, **_options(job, name, labels)}
            options["networking_config"] = {job.name: client.api.create_endpoint_config(aliases=[name])}
            try:
                containers.append(client.containers.create(job.image, ["train"], **options))
            except APIError as error:
                raise JobError(f"the engine refuses {name}: {said(error)}") from error
            hosts.append(ContainerHost(name, containers[-1]))
        yield tuple(hosts)
    finally:
        for container in containers:
            with suppress(*engine_errors()):
                container.remove(force=True, v=True)
        with suppress(*engine_errors()):
            network.remove()


def common_options(client: "DockerClient", gpus: int) -> dict[str, Any]:
    """What every container has that SageMaker would run: GPUs, half of the memory to share, a log to follow."""
    from docker.types import DeviceRequest, LogConfig

    return {
        "device_requests": [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else [],
        "shm_size": int(client.info()["MemTotal"]) // 2,
        "log_config": LogConfig(type=LogConfig.types.JSON),
    }


def _options(job: Job, host: str, labels: Mapping[str, str]) -> dict[str, Any]:
    from docker.types import Mount

    return {
        "name": f"{job.name}-{host}",
        "labels": dict(labels),
        "hostname": KERNEL_NAME,
        "network": job.name,
        "environment": dict(job.variables),
        "mounts": [Mount(channel.target, str(channel.source), type="bind", read_only=True) for channel in job.mounts],
    }


def _text(line: bytes) -> str:
    """A line without what a progress bar overwrote in it."""
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]


def said(error: Exception) -> str:
    """What the engine says, without the client's preamble."""
    return str(getattr(error, "explanation", None) or error).strip()
