"""The hosts of a training job and the instance of an endpoint, as Docker containers."""

import posixpath
import re
import signal
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rlimages.emulator.endpoint_config import MODEL_FOLDER, Endpoint
from rlimages.emulator.training_job import Job
from rlimages.engine.container import engine_errors
from rlimages.engine.docker import DockerEngine, translating_errors
from rlimages.errors import FactoryError, JobError
from rlimages.oci.labels import ENDPOINT_LABEL
from rlimages.system.process import run_with_input

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


def pack_model(source: Path | None, target: str) -> IO[bytes]:
    """An archive for `/` with the model's files below `target`, all of them root's and readable for everyone.

    Links of a folder are followed. It is a file without a name, which leaves nothing behind. Raises `JobError` where
    the source is no model, or has what would land outside `target`.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
    try:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            root = tarfile.TarInfo(target.lstrip("/"))
            root.type = tarfile.DIRTYPE
            archive.addfile(_readable(root))
            if source is not None and source.is_dir():
                for path in sorted(source.iterdir()):
                    archive.add(path, f"{target.lstrip('/')}/{path.name}", filter=_readable)
            elif source is not None:
                _copy_archive(source, target.lstrip("/"), archive)
    except OSError as error:
        stream.close()
        raise FactoryError(f"cannot unpack {error.filename or source}: {error.strerror}") from error
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return stream


def _copy_archive(source: Path, folder: str, archive: tarfile.TarFile) -> None:
    try:
        with tarfile.open(source, "r:gz") as packed:
            for entry in packed:
                moved = _relocate(entry, folder, source)
                archive.addfile(_readable(moved), packed.extractfile(entry) if entry.isreg() else None)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if getattr(error, "errno", None) is not None:  # it is the disk's: gzip and tar have no numbers
            raise
        raise JobError(f"{source} is no gzip-compressed tar archive, or not a whole one: {error}") from error


def _relocate(entry: tarfile.TarInfo, folder: str, source: Path) -> tarfile.TarInfo:
    """An entry with its place below `folder`, which it must not leave; the engine watches over links of links."""
    name = posixpath.normpath(entry.name)
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise JobError(f"{source}: {entry.name} is neither a file, a folder nor a link")
    goal = ""
    if entry.issym():
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
    elif entry.islnk():
        goal = posixpath.normpath(entry.linkname)
    for path in (name, goal):
        if path.startswith(("/", "../")) or path == "..":
            raise JobError(f"{source}: {entry.name} leads out of the model's folder")
    moved = copy(entry)
    moved.name = f"{folder}/{name}" if name != "." else folder
    moved.linkname = f"{folder}/{goal}" if entry.islnk() else entry.linkname
    # a long name stands in these headers too, and would go before the new one
    moved.pax_headers = {key: value for key, value in entry.pax_headers.items() if key not in ("path", "linkpath")}
    return moved


def _readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """As SageMaker's own unpacking leaves it: whichever user the image has can read the model."""
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


KERNEL_NAME = "aws"
"""What every host of a SageMaker job says it is called: not the name by which the others know it."""
_WRITE_PIPE = '[ -p "$2" ] || mkfifo -m 666 "$2"; exec cat >"$1"'
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
            return engine_message(error)
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
            following,
        ]
        return run_with_input(argv, sources) in (0, _ENOUGH)

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
            options = {**common, **_host_options(job, name, labels)}
            options["networking_config"] = {job.name: client.api.create_endpoint_config(aliases=[name])}
            try:
                containers.append(client.containers.create(job.image, ["train"], **options))
            except APIError as error:
                raise JobError(f"the engine refuses {name}: {engine_message(error)}") from error
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


def _host_options(job: Job, host: str, labels: Mapping[str, str]) -> dict[str, Any]:
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


def engine_message(error: Exception) -> str:
    """What the engine says, without the client's preamble."""
    return str(getattr(error, "explanation", None) or error).strip()


LOOPBACK = "127.0.0.1"
_TAKEN = re.compile(r"port is already allocated|address already in use")


class ContainerInstance(ContainerHost):
    """One instance, as a container."""

    def __init__(self, endpoint: Endpoint, container: "Container") -> None:
        super().__init__(endpoint.name, container)
        self._endpoint = endpoint

    def start(self) -> str:
        """Start `serve`; what the engine says when it can't, or nothing."""
        trouble = super().start()
        if _TAKEN.search(trouble):
            return f"port {self._endpoint.port} of this machine is taken; --port 0 finds a free one"
        return trouble

    def address(self) -> str:
        """Where it listens on this machine, once it has been started; empty when it has ended."""
        self._container.reload()
        return published_address(self._container)


def published_address(container: "Container") -> str:
    """`http://127.0.0.1:8080`, where the port of a container is; empty when it has none."""
    for bindings in container.ports.values():
        for binding in bindings or ():
            return f"http://{LOOPBACK}:{binding['HostPort']}"
    return ""


@contextmanager
def open_instance(client: "DockerClient", endpoint: Endpoint, labels: Mapping[str, str]) -> Iterator[ContainerInstance]:
    """Create the container of an endpoint, with its model; whatever happens, both are removed at the end.

    The model goes through the engine into a volume: nothing of this machine is mounted. Raises `JobError` when the
    engine refuses, or when the model is none.
    """
    from docker.errors import APIError

    containers: list[Container] = []
    with pack_model(endpoint.model, MODEL_FOLDER) as archive:
        volume = client.volumes.create(f"{endpoint.name}-model", labels=dict(labels))
        try:
            try:
                own: dict[str, Any] = {"name": f"{endpoint.name}-unpack", "labels": dict(labels)}
                own["mounts"] = [_model(volume.name)]
                containers.append(client.containers.create(endpoint.image, ["serve"], **own))
                containers[0].put_archive("/", archive)
                containers.pop().remove(force=True, v=True)
                options = {**common_options(client, endpoint.gpus), **_instance_options(endpoint, volume.name, labels)}
                containers.append(client.containers.create(endpoint.image, ["serve"], **options))
            except APIError as error:
                raise JobError(f"the engine refuses {endpoint.image}: {engine_message(error)}") from error
            yield ContainerInstance(endpoint, containers[0])
        finally:
            for container in containers:
                with suppress(*engine_errors()):
                    container.remove(force=True, v=True)
            with suppress(*engine_errors()):
                volume.remove(force=True)


def _instance_options(endpoint: Endpoint, volume: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "labels": dict(labels),
        "environment": dict(endpoint.variables),
        "mounts": [_model(volume, read_only=True)],
        "ports": {f"{endpoint.container_port}/tcp": (LOOPBACK, endpoint.port or None)},
    }


def _model(volume: str, *, read_only: bool = False) -> Any:
    from docker.types import Mount

    return Mount(MODEL_FOLDER, volume, type="volume", no_copy=True, read_only=read_only)


class JobEngine(DockerEngine):
    """A Docker engine that also gives what jobs and endpoints run on."""

    @contextmanager
    def hosts(self, job: Job) -> Iterator[tuple[ContainerHost, ...]]:
        """The hosts of a training job, not yet started; they and their network are gone at the end."""
        with translating_errors(), open_hosts(self.client(), job, self.labels()) as hosts:
            yield hosts

    @contextmanager
    def instance(self, endpoint: Endpoint) -> Iterator[ContainerInstance]:
        """The container of an endpoint, not yet started; it and its volume are gone at the end."""
        labels = self.labels() if endpoint.is_batch else {**self.labels(), ENDPOINT_LABEL: endpoint.name}
        with translating_errors(), open_instance(self.client(), endpoint, labels) as instance:
            yield instance

    def endpoints(self) -> Mapping[str, str]:
        """Name -> address of the endpoints that run on this machine."""
        with translating_errors():
            running = self.client().containers.list(filters={"label": ENDPOINT_LABEL}, ignore_removed=True)
            found = {container.labels[ENDPOINT_LABEL]: published_address(container) for container in running}
        return {name: address for name, address in sorted(found.items()) if address}
