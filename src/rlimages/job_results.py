"""What became of jobs and endpoints: values, as `results` has them of runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobStatus(StrEnum):
    """How a training job ended, in SageMaker's words."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """How a training job ended, and why."""

    status: JobStatus
    reason: str
    """Why it failed or was stopped, in one sentence; empty when it completed."""
    failure: str
    """The first 1024 characters of the failure file of the host that ended the job; empty where it wrote none."""
    codes: Mapping[str, int]
    """Host -> exit code of its container, of those that have started."""
    seconds: float


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


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformedFile:
    """What became of one file of a batch transform job."""

    name: str
    """Below the input folder."""
    output: str
    """Path of what was made of it; empty when it failed."""
    reason: str
    """Why it failed, with its place in the file; empty when it passed."""
    records: int
    """How many were transformed."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformResult:
    """How a batch transform job ended, and why."""

    status: JobStatus
    reason: str
    files: tuple[TransformedFile, ...]
    seconds: float
    last: tuple[str, ...] = ()
    """What its container printed last, when that is why."""
