"""Create, control and remove the Docker containers of training jobs and endpoints."""

import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rlimages.emulator.endpoint import MODEL_FOLDER, Endpoint
from rlimages.emulator.model_archive import pack_model
from rlimages.emulator.training_job import TrainingJob
from rlimages.engine.container import engine_errors
from rlimages.engine.docker import DockerEngine, translating_errors
from rlimages.errors import JobError
from rlimages.oci.labels import ENDPOINT_LABEL
from rlimages.system.process import run_with_input

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

KERNEL_HOST_NAME = "aws"
"""Host name that the kernel reports in all containers of a SageMaker job.

The other hosts reach a container as `algo-1`, `algo-2` and so on.
"""
LOOPBACK = "127.0.0.1"
"""The address of this machine at which the port of an endpoint is published. Other machines cannot reach it."""
_PORT_IN_USE = re.compile(r"port is already allocated|address already in use")
"""Matches the engine's message for a port that cannot be published because another program uses it."""
_WRITE_PIPE = '[ -p "$2" ] || mkfifo -m 666 "$2"; exec cat >"$1"'
"""Shell script of `write_pipe`: create the next pipe before a reader can ask for it, then write standard input."""
_SIGPIPE_STATUS = 128 + signal.SIGPIPE
"""Exit status of `cat` in `_WRITE_PIPE` if the reader closed the pipe before its end."""


class HostContainer:
    """A Docker container that runs as a SageMaker host: one host of a training job, or an endpoint.

    Its methods raise the Docker client's errors; `open_hosts` and `open_endpoint` turn them into `ToolError`.
    """

    def __init__(self, name: str, container: "Container") -> None:
        """Control `container`, which was created already.

        `name` is the host's name in resourceconfig.json, or the name of the endpoint.
        """
        self.name = name
        self._container = container

    def unpack(self, archive: IO[bytes]) -> None:
        """Unpack the tar archive `archive` at `/` of the container, which need not be started yet."""
        self._container.put_archive("/", archive)

    def start(self) -> str:
        """Start the program of the container.

        Returns the engine's error message if it cannot be started, else an empty string.
        """
        from docker.errors import APIError

        try:
            self._container.start()
        except APIError as error:
            return _engine_message(error)
        return ""

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Pass each line of the container's log to `on_line` until the container ends. Returns its exit code."""
        rest = b""
        for chunk in self._container.logs(stream=True, follow=True):
            # A chunk may end within a line.
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(_decode_line(line))
        if rest:
            on_line(_decode_line(rest))
        return int(self._container.wait(timeout=None)["StatusCode"])

    def send_signal(self, signal: str) -> None:
        """Send `signal`, such as `SIGTERM`, to the first process of the container.

        Does nothing if the container has ended.
        """
        from docker.errors import APIError

        with suppress(APIError):  # the container ended in the meantime
            self._container.kill(signal)

    def ran_out_of_memory(self) -> bool:
        """Return True if the kernel killed a process of the container because it used too much memory."""
        self._container.reload()
        return bool(self._container.attrs["State"].get("OOMKilled"))

    def write_pipe(self, pipe: str, next_pipe: str, sources: Iterable[Path]) -> bool:
        """Write the files `sources` into the container's named pipe `pipe`, and wait until a program has read them.

        Creates the pipe `next_pipe` first, so that it exists when the program reads the channel again. Returns True if
        a program read everything, or closed the pipe before the end. Returns False if the pipe cannot be written,
        because the container has ended. Raises `OSError` if a file of `sources` cannot be read.
        """
        argv = [
            "docker",
            "exec",
            "--interactive",
            str(self._container.id),
            "sh",
            "-c",
            _WRITE_PIPE,
            "sh",
            pipe,
            next_pipe,
        ]
        return run_with_input(argv, sources) in (0, _SIGPIPE_STATUS)

    def read_archive(self, path: str) -> Iterator[bytes] | None:
        """Return the file or folder `path` of the container as chunks of a tar archive; None if it does not exist."""
        from docker.errors import NotFound

        try:
            chunks: Iterator[bytes] = self._container.get_archive(path)[0]
        except NotFound:
            return None
        return chunks


class EndpointContainer(HostContainer):
    """The container of an endpoint. It runs `serve` and publishes one port on this machine."""

    def __init__(self, endpoint: Endpoint, container: "Container") -> None:
        """Control `container`, which was created already, with the configuration `endpoint`."""
        super().__init__(endpoint.name, container)
        self._endpoint = endpoint

    def start(self) -> str:
        """Start `serve` in the container. Returns an error message if it cannot be started, else an empty string.

        The message for a port that is in use names the remedy, `--port 0`.
        """
        message = super().start()
        if _PORT_IN_USE.search(message):
            return f"port {self._endpoint.port} of this machine is in use; --port 0 takes a free one"
        return message

    def address(self) -> str:
        """Return the URL of the published port, such as `http://127.0.0.1:8080`; empty if the container has ended."""
        self._container.reload()
        return _published_address(self._container)


@contextmanager
def open_hosts(engine: DockerEngine, job: TrainingJob) -> Iterator[tuple[HostContainer, ...]]:
    """Create one container for each host of `job`, not yet started, and a network that connects them; yield the hosts.

    The end of the block removes the containers and the network, also after an error. Raises `JobError` if the engine
    refuses to create a container, and `ToolError` for every other error of the engine before or in the block.
    """
    from docker.errors import APIError

    with translating_errors(), ExitStack() as cleanup:
        client, labels = engine.client(), dict(engine.labels())
        network = client.networks.create(job.name, driver="bridge", labels=labels)
        cleanup.callback(_ignore_errors, network.remove)
        common = _common_options(client, job.gpus)
        hosts: list[HostContainer] = []
        for name in job.hosts:
            options = {**common, **_host_options(job, name, labels)}
            # The other containers resolve the alias, until this container ends.
            options["networking_config"] = {job.name: client.api.create_endpoint_config(aliases=[name])}
            try:
                container = client.containers.create(job.image, ["train"], **options)
            except APIError as error:
                raise JobError(f"cannot create the container of {name}: {_engine_message(error)}") from error
            cleanup.callback(_ignore_errors, _remove_container, container)
            hosts.append(HostContainer(name, container))
        yield tuple(hosts)


@contextmanager
def open_endpoint(engine: DockerEngine, endpoint: Endpoint) -> Iterator[EndpointContainer]:
    """Create the container of `endpoint`, not yet started, and a volume with its model; yield the container.

    The end of the block removes both, also after an error. No file of this machine is mounted: the model is copied
    through the engine into the volume. Raises `JobError` if the engine refuses to create a container or the model is
    invalid, `FactoryError` if the model cannot be read, and `ToolError` for every other error of the engine before or
    in the block.
    """
    from docker.errors import APIError

    # `rlimages invoke` finds endpoints by this label. A batch transform job takes no requests from outside.
    labels = {**engine.labels(), **({} if endpoint.is_batch else {ENDPOINT_LABEL: endpoint.name})}
    with translating_errors(), pack_model(endpoint.model, MODEL_FOLDER) as archive, ExitStack() as cleanup:
        client = engine.client()
        volume = client.volumes.create(f"{endpoint.name}-model", labels=labels)
        cleanup.callback(_ignore_errors, volume.remove, force=True)
        try:
            with ExitStack() as unpacking:
                # A container of its own, never started: Docker copies no files into a read-only mount.
                options: dict[str, Any] = {"name": f"{endpoint.name}-unpack", "labels": labels}
                options["mounts"] = [_model_mount(volume.name)]
                unpacker = client.containers.create(endpoint.image, ["serve"], **options)
                unpacking.callback(_ignore_errors, _remove_container, unpacker)
                unpacker.put_archive("/", archive)
            options = {**_common_options(client, endpoint.gpus), **_endpoint_options(endpoint, volume.name, labels)}
            container = client.containers.create(endpoint.image, ["serve"], **options)
        except APIError as error:
            raise JobError(f"cannot create the container of {endpoint.image}: {_engine_message(error)}") from error
        cleanup.callback(_ignore_errors, _remove_container, container)
        yield EndpointContainer(endpoint, container)


def running_endpoints(engine: DockerEngine) -> Mapping[str, str]:
    """Return name -> URL of the endpoints that run on `engine`, sorted by name, without those of batch transform jobs.

    Raises `ToolError` if the engine does not answer.
    """
    with translating_errors():
        running = engine.client().containers.list(filters={"label": ENDPOINT_LABEL}, ignore_removed=True)
        addresses = {container.labels[ENDPOINT_LABEL]: _published_address(container) for container in running}
    return {name: address for name, address in sorted(addresses.items()) if address}


def _engine_message(error: Exception) -> str:
    """Return the engine's own text of `error`, without the Docker client's preamble about the HTTP request."""
    return str(getattr(error, "explanation", None) or error).strip()


def _common_options(client: "DockerClient", gpus: int) -> dict[str, Any]:
    """Return the options of the Docker client's `containers.create` that training hosts and endpoints share.

    They are `gpus` GPUs (`ALL_GPUS` for all), the size of shared memory, and the log driver.
    """
    from docker.types import DeviceRequest, LogConfig

    return {
        "device_requests": [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else [],
        # Half of the memory, as Linux does for /dev/shm. Docker's default, 64 MB, is too small for Ray's object store.
        "shm_size": int(client.info()["MemTotal"]) // 2,
        # The engine's default may be another driver, one whose logs cannot be followed.
        "log_config": LogConfig(type=LogConfig.types.JSON),
    }


def _host_options(job: TrainingJob, host: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of `containers.create` for the container of `host`: names, network, variables, mounts."""
    from docker.types import Mount

    return {
        "name": f"{job.name}-{host}",
        "labels": dict(labels),
        "hostname": KERNEL_HOST_NAME,
        "network": job.name,
        "environment": dict(job.variables),
        "mounts": [Mount(channel.target, str(channel.source), type="bind", read_only=True) for channel in job.mounts],
    }


def _endpoint_options(endpoint: Endpoint, volume: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of `containers.create` for the container of `endpoint`.

    They are its name and variables, the published port, and the mount of `volume`, which holds the model.
    """
    return {
        "name": endpoint.name,
        "labels": dict(labels),
        "environment": dict(endpoint.variables),
        "mounts": [_model_mount(volume, read_only=True)],
        # None lets Docker choose a free port.
        "ports": {f"{endpoint.container_port}/tcp": (LOOPBACK, endpoint.port or None)},
    }


def _model_mount(volume: str, *, read_only: bool = False) -> Any:
    """Return the mount of the volume named `volume` at /opt/ml/model."""
    from docker.types import Mount

    # no_copy: otherwise Docker fills the empty volume with the image's own /opt/ml/model
    return Mount(MODEL_FOLDER, volume, type="volume", no_copy=True, read_only=read_only)


def _published_address(container: "Container") -> str:
    """Return the URL of the port that `container` publishes, such as `http://127.0.0.1:8080`; empty if none."""
    for bindings in container.ports.values():
        for binding in bindings or ():
            return f"http://{LOOPBACK}:{binding['HostPort']}"
    return ""


def _decode_line(line: bytes) -> str:
    """Return a line of a log as text.

    If carriage returns overwrote it, as a progress bar does, only its last state is returned.
    """
    return line.decode("utf-8", errors="replace").rstrip("\r").rpartition("\r")[2]


def _remove_container(container: "Container") -> None:
    """Kill and remove `container` with its anonymous volumes."""
    container.remove(force=True, v=True)


def _ignore_errors(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Call `function` of the Docker client with these arguments, and ignore its errors.

    The next command removes what is left on the engine.
    """
    with suppress(*engine_errors()):
        function(*arguments, **options)
