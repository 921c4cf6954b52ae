"""An endpoint, and what SageMaker's hosting gives its container: words in, values out. No files, no Docker.

Limits are those of the developer guide ("Custom Inference Code with Hosting Services") and of InvokeEndpoint.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from rlimages.errors import JobError

MODEL = "/opt/ml/model"
PORT = 8080
"""Where a container listens, if it has not been told otherwise."""
BIND_TO_PORT = "SAGEMAKER_BIND_TO_PORT"
BIND_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
"""An image whose label of this name is `true` listens where `SAGEMAKER_BIND_TO_PORT` says."""
STARTUP = 480
"""Seconds until the first ping must have passed: 8 minutes."""
PING = 2.0
"""Seconds that a ping may take."""
INVOCATION = 60.0
"""Seconds that an invocation may take."""
PAYLOAD = 6 * 2**20
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
    startup: float = STARTUP
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


def insist_on_bind(labels: Mapping[str, str], endpoint: Endpoint) -> None:
    """Raises `JobError` where an image has not promised to listen where it is told to."""
    if endpoint.bind_to and labels.get(BIND_LABEL) != "true":
        raise JobError(f"--bind-to-port {endpoint.bind_to}: {endpoint.image} has no label {BIND_LABEL}=true")


def content_type(name: str, said: str | None) -> str:
    """What a file is: as it was said, or by its extension. Raises `JobError` where neither tells."""
    found = said or _TYPES.get(PurePath(name).suffix.lower())
    if found is None:
        raise JobError(
            f"{name}: say what it is with --content-type, such as {' or '.join(dict.fromkeys(_TYPES.values()))}"
        )
    return found
