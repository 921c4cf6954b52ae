"""A training job, and everything that SageMaker puts into its containers: files, variables, channels."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlimages.errors import JobError

BASE = "/opt/ml"
CODE = f"{BASE}/code"
MODEL = f"{BASE}/model"
OUTPUT_DATA = f"{BASE}/output/data"
FAILURE = f"{BASE}/output/failure"
FOLDERS = (
    BASE,
    CODE,
    MODEL,
    f"{BASE}/output",
    OUTPUT_DATA,
    f"{BASE}/input/config",
    f"{BASE}/input/data",
    f"{BASE}/checkpoints",
)
"""What is there before the container starts, open to the image's user.

Not `output/intermediate`: where it exists, the toolkit does not fill it.
"""
NETWORK_INTERFACE = "eth0"
GROUP = "homogeneousCluster"
"""The one instance group of a job that has not named any."""
ALL_GPUS = -1
RESERVED = (
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_job_name",
    "sagemaker_region",
    "sagemaker_container_log_level",
)
_INFO = 20
"""`logging.INFO`, the SDK's default level."""


class InputMode(StrEnum):
    """How input gets into a container. `Mount` is not SageMaker's: for more data than one wants to copy."""

    FILE = "File"
    """A copy, which the script may change."""
    PIPE = "Pipe"
    """Named pipes: /opt/ml/input/data/<name>_0 for the first reading, and so on."""
    MOUNT = "Mount"
    """The very files, read-only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """Input that the script finds in /opt/ml/input/data/<name>."""

    name: str
    source: Path
    is_file: bool = False
    mode: InputMode = InputMode.FILE

    @property
    def target(self) -> str:
        """Where it is in the container; a single file keeps its name."""
        folder = f"{BASE}/input/data/{self.name}"
        return f"{folder}/{self.source.name}" if self.is_file else folder

    def pipe(self, epoch: int) -> str:
        """Where it is read for the first time (0), the second (1) and so on."""
        return f"{BASE}/input/data/{self.name}_{epoch}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One training job, fully decided."""

    name: str
    image: str
    region: str
    program: str
    """The entry point, relative to /opt/ml/code; empty when the image trains by itself."""
    code: Mapping[str, Path]
    """Absolute path in the container -> the file or folder that is copied there."""
    parameters: Mapping[str, str]
    """As they were typed."""
    channels: tuple[Channel, ...] = ()
    instance_count: int = 1
    environment: Mapping[str, str]
    gpus: int = 0
    """How many for each container; `ALL_GPUS` for all."""
    max_run: float
    """Seconds that it may train."""
    checkpoints: Path | None = None
    """The folder that /opt/ml/checkpoints is kept in step with; None where none is."""

    def __post_init__(self) -> None:
        _require(len(self.parameters) <= 100, f"{len(self.parameters)} hyperparameters; a job may have 100")
        for name, value in self.parameters.items():
            _require(not (self.program and name in RESERVED), f"hyperparameter {name!r} is SageMaker's own")
            fits = len(name) <= 256 and len(encode_value(value)) <= 2500
            _require(fits, f"hyperparameter {name!r} is too long; a name has 256 characters at most, a value 2500")
        for name in self.environment:
            fits = re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}", name) is not None
            _require(fits, f"{name!r} cannot be an environment variable")
        _require(len(self.channels) <= 20, f"{len(self.channels)} channels; a job may have 20")
        for channel in self.channels:
            fits = re.fullmatch(r"[A-Za-z0-9._-]{1,64}", channel.name) is not None and channel.name not in (".", "..")
            _require(fits, f"{channel.name!r} cannot be a channel; use letters, digits, dots, dashes and underscores")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names by which its containers know each other: `algo-1`, `algo-2` and so on."""
        return tuple(f"algo-{number}" for number in range(1, self.instance_count + 1))

    @property
    def instance_type(self) -> str:
        """What the SDK's local mode calls this machine."""
        return "local_gpu" if self.gpus else "local"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """As SageMaker hands them over: with an entry point JSON texts and the SDK's own, else as they were typed."""
        if not self.program:
            return self.parameters
        own: dict[str, Any] = dict(zip(RESERVED, (self.program, CODE, self.name, self.region, _INFO), strict=True))
        mine = {name: encode_value(value) for name, value in self.parameters.items()}
        return mine | {name: json.dumps(value) for name, value in own.items()}

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of every container."""
        arn = f"arn:aws:sagemaker:{self.region}:000000000000:training-job/{self.name}"
        return {
            "AWS_REGION": self.region,
            "TRAINING_JOB_NAME": self.name,
            "TRAINING_JOB_ARN": arn,
            **self.environment,
        }

    def texts(self, host: str) -> Mapping[str, str]:
        """The files of /opt/ml/input/config on one host: absolute path -> text."""
        folder = f"{BASE}/input/config"
        configs = {
            "hyperparameters": self.hyperparameters,
            "inputdataconfig": self._inputs(),
            "resourceconfig": self._resources(host),
        }
        return {f"{folder}/{name}.json": json.dumps(config) for name, config in configs.items()}

    @property
    def pipes(self) -> tuple[Channel, ...]:
        """The channels that are read from pipes."""
        return tuple(channel for channel in self.channels if channel.mode is InputMode.PIPE)

    @property
    def copies(self) -> Mapping[str, Path]:
        """Absolute path in the container -> the file or folder that is copied there: code, and channels of files."""
        return {
            **self.code,
            **{channel.target: channel.source for channel in self.channels if channel.mode is InputMode.FILE},
        }

    @property
    def mounts(self) -> tuple[Channel, ...]:
        """The channels that are mounted."""
        return tuple(channel for channel in self.channels if channel.mode is InputMode.MOUNT)

    def _inputs(self) -> Mapping[str, Mapping[str, str]]:
        fixed = {"S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        told = {InputMode.PIPE: "Pipe"}
        return {c.name: {"TrainingInputMode": told.get(c.mode, "File"), **fixed} for c in self.channels}

    def _resources(self, host: str) -> Mapping[str, Any]:
        """Hosts are sorted as texts are, as SageMaker does: `algo-10` comes before `algo-2`."""
        hosts = sorted(self.hosts)
        group = {"instance_group_name": GROUP, "instance_type": self.instance_type, "hosts": hosts}
        return {
            "current_host": host,
            "current_instance_type": self.instance_type,
            "current_group_name": GROUP,
            "hosts": hosts,
            "instance_groups": [group],
            "network_interface_name": NETWORK_INTERFACE,
        }


def encode_value(text: str) -> str:
    """JSON text of a value as it was typed: what reads as JSON is that value, anything else is a string.

    `0.1` and `true` and `{"a": 1}` are themselves, `abc` becomes `"abc"`; so does the SDK with Python's values.
    """
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return json.dumps(text)


def parse_pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """`name=value` words as a mapping. Raises `JobError` where there is no `=`, or a name comes twice."""
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        _require(bool(name and sign), f"{option} {word}: write it as name=value")
        _require(name not in found, f"{option} {name} is given twice")
        found[name] = value
    return found


def parse_gpus(word: str | None) -> int:
    """`2`, or `all`, or nothing, as a number. Raises `JobError`."""
    if word == "all":
        return ALL_GPUS
    _require(word is None or word.isdecimal(), f"--gpus {word}: say a number, or all")
    return int(word or 0)


def make_job_name(image: str, now: datetime, process: int) -> str:
    """A job's name from its image's and the time, to the millisecond, as the SDK makes it; at most 63 characters.

    After it comes the number of the process: two jobs of one machine may begin within a millisecond.
    """
    stamp = now.strftime("%Y-%m-%d-%H-%M-%S-") + f"{now.microsecond // 1000:03}-{process}"
    words = re.findall("[A-Za-z0-9]+", image.partition("@")[0].rpartition("/")[2].partition(":")[0])
    return f"{'-'.join(words or ['job'])[: 62 - len(stamp)].rstrip('-')}-{stamp}"


def _require(true: bool, sentence: str) -> None:
    if not true:
        raise JobError(sentence)


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
