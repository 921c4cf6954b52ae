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
"""Where the container finds the unpacked model, read-only."""
PORT = 8080
"""Port on which a container listens by default."""
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
"""Environment variable with another port. SageMaker sets it only for images with `BIND_TO_PORT_LABEL`."""
STARTUP_TIMEOUT = 480
"""Default of ContainerStartupHealthCheckTimeoutInSeconds: seconds until the first successful ping."""
PING_TIMEOUT = 2.0
"""Time limit of GET /ping in seconds."""
INVOCATION_TIMEOUT = 60.0
"""Time limit of POST /invocations of an endpoint in seconds."""
MAX_PAYLOAD = 6 * 2**20
"""Largest body of a request to an endpoint, in bytes."""
MAX_VARIABLES = 100
"""Largest number of environment variables in CreateModel."""
_VARIABLE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
_CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".jsonlines": "application/jsonlines",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
}
"""File extension -> content type."""


class EndpointStatus(StrEnum):
    """Status of an endpoint, with SageMaker's names where it has any.

    SageMaker has no Unhealthy and Stopped: it replaces unhealthy instances, and deletes endpoints.
    """

    CREATING = "Creating"
    IN_SERVICE = "InService"
    UNHEALTHY = "Unhealthy"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointState:
    """A status that an endpoint entered, when, and why."""

    status: EndpointStatus
    reason: str = ""
    """One sentence; empty while it is in service."""
    address: str = ""
    """Such as `http://127.0.0.1:8080`; empty if its container could not be started."""
    seconds: float = 0.0
    """Since the start of its container."""
    last_lines: tuple[str, ...] = ()
    """The last lines of its log."""
    previous: EndpointStatus = EndpointStatus.CREATING
    """The status before this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One container that serves a model, with every default applied.

    Raises `JobError` for environment variables that CreateModel refuses.
    """

    name: str
    image: str
    region: str
    model: Path | None
    """A model.tar.gz, or a folder with the content of one; None if the image needs no model."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The user's environment variables."""
    gpus: int = 0
    """GPUs of the container; `ALL_GPUS` for all."""
    port: int = PORT
    """Port of this machine's loopback interface; 0 for a free one."""
    bind_to: int | None = None
    """Port on which the container has to listen; None for 8080."""
    startup: float = STARTUP_TIMEOUT
    """Seconds until the first successful ping, at most."""
    is_batch: bool = False
    """True for the container of a batch transform job. `rlimages invoke` does not find it."""

    def __post_init__(self) -> None:
        for name in self.environment:
            if _VARIABLE_NAME.fullmatch(name) is None:
                raise JobError(f"{name!r} is not a valid name of an environment variable")
        if len(self.environment) > MAX_VARIABLES:
            raise JobError(f"{len(self.environment)} environment variables; SageMaker allows {MAX_VARIABLES}")

    @property
    def container_port(self) -> int:
        """The port on which the container listens."""
        return self.bind_to or PORT

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of the container. The user's override SageMaker's."""
        port = {BIND_TO_PORT: str(self.bind_to)} if self.bind_to else {}
        batch = {"SAGEMAKER_BATCH": "true"} if self.is_batch else {}
        return {"AWS_REGION": self.region, **port, **batch, **self.environment}


def require_bind_label(labels: Mapping[str, str], endpoint: Endpoint) -> None:
    """Raise `JobError` if the endpoint has a port of its own, and its image lacks the label that promises to use it."""
    if endpoint.bind_to and labels.get(BIND_TO_PORT_LABEL) != "true":
        raise JobError(f"--bind-to-port {endpoint.bind_to}: {endpoint.image} has no label {BIND_TO_PORT_LABEL}=true")


def find_content_type(name: str, given: str | None) -> str:
    """Return the content type of a file: the given one, or else by the file's extension.

    Raises `JobError` if none is given and the extension is unknown.
    """
    found = given or _CONTENT_TYPES.get(PurePath(name).suffix.lower())
    if found is None:
        known = ", ".join(dict.fromkeys(_CONTENT_TYPES.values()))
        raise JobError(f"{name}: unknown file extension; give its type with --content-type, such as {known}")
    return found
