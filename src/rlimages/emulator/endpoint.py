"""An endpoint: the configuration of its container, its states, and the limits of SageMaker hosting.

The limits are those of "Use Your Own Inference Code with Hosting Services" (SageMaker Developer Guide) and of the API
reference of CreateModel and InvokeEndpoint.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath

from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL

MODEL_FOLDER = "/opt/ml/model"
"""Folder of the container with the unpacked model. It is mounted read-only."""
PORT = 8080
"""Port on which a container listens by default, and on which an endpoint answers on this machine by default."""
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
"""Environment variable with the port on which a container must listen instead of 8080.

SageMaker sets it only for images with the label `BIND_TO_PORT_LABEL`.
"""
STARTUP_TIMEOUT = 480
"""Default of ContainerStartupHealthCheckTimeoutInSeconds.

It is the longest time from the start of a container to its first successful ping.
"""
PING_TIMEOUT = 2.0
"""Time limit of GET /ping in seconds."""
INVOCATION_TIMEOUT = 60.0
"""Time limit of POST /invocations of an endpoint in seconds."""
MAX_PAYLOAD = 6 * 2**20
"""Largest body of a request to an endpoint, in bytes."""
MAX_VARIABLES = 100
"""Largest number of environment variables in CreateModel."""
_VARIABLE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
"""The names of environment variables that CreateModel accepts."""
_CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".jsonlines": "application/jsonlines",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
}
"""File extension -> content type of a request with the content of the file."""


class EndpointStatus(StrEnum):
    """The status of an endpoint. Creating, InService and Failed are values of SageMaker's API.

    SageMaker has no Unhealthy and Stopped: it replaces unhealthy instances, and deletes endpoints.
    """

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UNHEALTHY = "Unhealthy"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointState:
    """A status that an endpoint entered, with the time and the reason."""

    status: EndpointStatus
    reason: str = ""
    """Why the endpoint has this status, in one sentence; empty while it is Creating or InService."""
    address: str = ""
    """URL of the endpoint, such as `http://127.0.0.1:8080`; empty if its container could not be started."""
    seconds: float = 0.0
    """Seconds from the start of the container to this state."""
    last_lines: tuple[str, ...] = ()
    """The last lines of the container's log when the endpoint entered this state."""
    previous: EndpointStatus = EndpointStatus.CREATING
    """The status before this state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """The configuration of one container that serves a model, with every default applied.

    The constructor raises `JobError` for environment variables that CreateModel refuses: invalid names, or too many.
    """

    name: str
    image: str
    region: str
    """The AWS region that the container finds in AWS_REGION."""
    model: Path | None
    """A model.tar.gz, or a folder with the content of one; None if the image needs no model."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The user's environment variables."""
    gpus: int = 0
    """Number of GPUs of the container; `ALL_GPUS` for all GPUs of this machine."""
    port: int = PORT
    """Port of this machine's loopback interface on which the endpoint answers; 0 for a free port."""
    bind_to: int | None = None
    """Port on which the container has to listen; None for 8080."""
    startup: float = STARTUP_TIMEOUT
    """Largest number of seconds from the start of the container to the first successful ping."""
    is_batch: bool = False
    """True for the container of a batch transform job. `rlimages invoke` does not find it."""

    def __post_init__(self) -> None:
        """Raise `JobError` for environment variables that CreateModel refuses."""
        for name in self.environment:
            if _VARIABLE_NAME.fullmatch(name) is None:
                raise JobError(f"{name!r} is not a valid name of an environment variable")
        if len(self.environment) > MAX_VARIABLES:
            raise JobError(f"{len(self.environment)} environment variables; SageMaker allows {MAX_VARIABLES}")

    @property
    def container_port(self) -> int:
        """The port on which the server listens inside the container."""
        return self.bind_to or PORT

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of the container. The user's variables override those of SageMaker."""
        port = {BIND_TO_PORT: str(self.bind_to)} if self.bind_to else {}
        batch = {"SAGEMAKER_BATCH": "true"} if self.is_batch else {}
        return {"AWS_REGION": self.region, **port, **batch, **self.environment}


def require_bind_label(labels: Mapping[str, str], endpoint: Endpoint) -> None:
    """Raise `JobError` if `endpoint` sets a port inside the container, but its image does not promise to use that port.

    The promise is the label `BIND_TO_PORT_LABEL` with the value `true`. `labels` are the labels of the image.
    """
    if endpoint.bind_to and labels.get(BIND_TO_PORT_LABEL) != "true":
        raise JobError(f"--bind-to-port {endpoint.bind_to}: {endpoint.image} has no label {BIND_TO_PORT_LABEL}=true")


def find_content_type(file_name: str, content_type: str | None) -> str:
    """Return `content_type`, or the content type for the extension of `file_name` if `content_type` is None.

    Raises `JobError` if `content_type` is None and the extension is unknown.
    """
    found = content_type or _CONTENT_TYPES.get(PurePath(file_name).suffix.lower())
    if found is None:
        known = ", ".join(dict.fromkeys(_CONTENT_TYPES.values()))
        raise JobError(f"{file_name}: unknown file extension; give its type with --content-type, such as {known}")
    return found
