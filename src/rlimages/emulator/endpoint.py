"""The configuration of an endpoint's container."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath

from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL


class EndpointStatus(StrEnum):
    """How an endpoint is, in SageMaker's words where it has any."""

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UNHEALTHY = "Unhealthy"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointState:
    """How an endpoint is from some moment on, and why."""

    status: EndpointStatus
    reason: str = ""
    """In one sentence; empty while it is in service."""
    address: str = ""
    """`http://127.0.0.1:8080`; empty when it never ran."""
    seconds: float = 0.0
    """Since its container was started."""
    last: tuple[str, ...] = ()
    """What its container printed last."""
    before: EndpointStatus = EndpointStatus.CREATING
    """How it was until then."""


MODEL_FOLDER = "/opt/ml/model"
PORT = 8080
"""Where a container listens, if it has not been told otherwise."""
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
STARTUP_TIMEOUT = 480
"""Seconds until the first ping must have passed: 8 minutes."""
PING_TIMEOUT = 2.0
"""Seconds that a ping may take."""
INVOCATION_TIMEOUT = 60.0
"""Seconds that an invocation may take."""
MAX_PAYLOAD = 6 * 2**20
"""Bytes that an invocation may bring."""
_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".jsonlines": "application/jsonlines",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One container that serves a model, fully decided."""

    name: str
    image: str
    region: str
    model: Path | None
    """A model.tar.gz, or a folder with what one would hold; None for a container that brings its own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    """How many; `job.ALL_GPUS` for all."""
    port: int = PORT
    """Of this machine's loopback; 0 for any that is free."""
    bind_to: int | None = None
    """The port in the container, where it is not 8080."""
    startup: float = STARTUP_TIMEOUT
    is_batch: bool = False
    """True for the container of a batch transform job: nobody is told of its address."""

    def __post_init__(self) -> None:
        for name in self.environment:
            if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}", name) is None:
                raise JobError(f"{name!r} cannot be an environment variable")
        if len(self.environment) > 100:
            raise JobError(f"{len(self.environment)} environment variables; a model may have 100")

    @property
    def container_port(self) -> int:
        """Where the container listens."""
        return self.bind_to or PORT

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of the container."""
        bound = {BIND_TO_PORT: str(self.bind_to)} if self.bind_to else {}
        batch = {"SAGEMAKER_BATCH": "true"} if self.is_batch else {}
        return {"AWS_REGION": self.region, **bound, **batch, **self.environment}


def require_bind_label(labels: Mapping[str, str], endpoint: Endpoint) -> None:
    """Raises `JobError` where an image has not promised to listen where it is told to."""
    if endpoint.bind_to and labels.get(BIND_TO_PORT_LABEL) != "true":
        raise JobError(f"--bind-to-port {endpoint.bind_to}: {endpoint.image} has no label {BIND_TO_PORT_LABEL}=true")


def content_type(name: str, said: str | None) -> str:
    """What a file is: as it was said, or by its extension. Raises `JobError` where neither tells."""
    found = said or _TYPES.get(PurePath(name).suffix.lower())
    if found is None:
        raise JobError(
            f"{name}: say what it is with --content-type, such as {' or '.join(dict.fromkeys(_TYPES.values()))}"
        )
    return found
