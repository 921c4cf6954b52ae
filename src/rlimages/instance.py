"""The instance behind an endpoint: a container with the model read-only before it and its port on loopback."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rlimages import artifact
from rlimages.container import engine_errors
from rlimages.errors import JobError
from rlimages.host import ContainerHost, common_options, said
from rlimages.hosting import MODEL, Endpoint

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LOOPBACK = "127.0.0.1"
_TAKEN = re.compile(r"port is already allocated|address already in use")


class Instance(ContainerHost):
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
        return published(self._container)


def published(container: "Container") -> str:
    """`http://127.0.0.1:8080`, where the port of a container is; empty when it has none."""
    for bindings in container.ports.values():
        for binding in bindings or ():
            return f"http://{LOOPBACK}:{binding['HostPort']}"
    return ""


@contextmanager
def open_instance(client: "DockerClient", endpoint: Endpoint, labels: Mapping[str, str]) -> Iterator[Instance]:
    """Create the container of an endpoint, with its model; whatever happens, both are removed at the end.

    The model goes through the engine into a volume: nothing of this machine is mounted. Raises `JobError` when the
    engine refuses, or when the model is none.
    """
    from docker.errors import APIError

    containers: list[Container] = []
    with artifact.pack(endpoint.model, MODEL) as archive:
        volume = client.volumes.create(f"{endpoint.name}-model", labels=dict(labels))
        try:
            try:
                own: dict[str, Any] = {"name": f"{endpoint.name}-unpack", "labels": dict(labels)}
                own["mounts"] = [_model(volume.name)]
                containers.append(client.containers.create(endpoint.image, ["serve"], **own))
                containers[0].put_archive("/", archive)
                containers.pop().remove(force=True, v=True)
                options = {**common_options(client, endpoint.gpus), **_options(endpoint, volume.name, labels)}
                containers.append(client.containers.create(endpoint.image, ["serve"], **options))
            except APIError as error:
                raise JobError(f"the engine refuses {endpoint.image}: {said(error)}") from error
            yield Instance(endpoint, containers[0])
        finally:
            for container in containers:
                with suppress(*engine_errors()):
                    container.remove(force=True, v=True)
            with suppress(*engine_errors()):
                volume.remove(force=True)


def _options(endpoint: Endpoint, volume: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "labels": dict(labels),
        "environment": dict(endpoint.variables),
        "mounts": [_model(volume, read_only=True)],
        "ports": {f"{endpoint.container_port}/tcp": (LOOPBACK, endpoint.port or None)},
    }


def _model(volume: str, *, read_only: bool = False) -> Any:
    from docker.types import Mount

    return Mount(MODEL, volume, type="volume", no_copy=True, read_only=read_only)
