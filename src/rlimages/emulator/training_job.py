"""A training job, and everything that SageMaker puts into its containers: files, environment variables, channels.

The folders and files are described in "How Amazon SageMaker Provides Training Information" and "How Amazon SageMaker
Processes Training Output" (SageMaker Developer Guide), the limits in the API reference of CreateTrainingJob.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlimages.emulator.job import JobStatus
from rlimages.errors import JobError

BASE = "/opt/ml"
"""The folder that SageMaker reserves in every container. The paths below it are the contract of training containers."""
CODE = f"{BASE}/code"
MODEL = f"{BASE}/model"
OUTPUT_DATA = f"{BASE}/output/data"
FAILURE = f"{BASE}/output/failure"
CHECKPOINTS = f"{BASE}/checkpoints"
FOLDERS = (
    BASE,
    CODE,
    MODEL,
    f"{BASE}/output",
    OUTPUT_DATA,
    f"{BASE}/input/config",
    f"{BASE}/input/data",
    CHECKPOINTS,
)
"""Folders that exist before the container starts. Every user may write to them.

`/opt/ml/output/intermediate` is left out on purpose: if it exists, the training toolkit does not upload its content
while the job runs.
"""
MAX_HYPERPARAMETERS = 100
MAX_HYPERPARAMETER_NAME = 256
MAX_HYPERPARAMETER_VALUE = 2500
MAX_CHANNELS = 20
"""The limits of CreateTrainingJob. Lengths are in characters."""
RESERVED = (
    "sagemaker_program",
    "sagemaker_submit_directory",
    "sagemaker_job_name",
    "sagemaker_region",
    "sagemaker_container_log_level",
)
"""The hyperparameters that the SageMaker SDK adds; `TrainingJob.hyperparameters` sets their values."""
_LOG_LEVEL = 20
"""`logging.INFO`, the default of the SDK's `container_log_level`."""
_INSTANCE_GROUP = "homogeneousCluster"
"""SageMaker's name of the only instance group of a job that defines none."""
_NETWORK_INTERFACE = "eth0"
_VARIABLE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}")
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class InputMode(StrEnum):
    """How the data of a channel is provided in the container."""

    FILE = "File"
    """A copy, which the script may change."""
    PIPE = "Pipe"
    """Named pipes, one for each time that the channel is read."""
    MOUNT = "Mount"
    """The files of this machine, mounted read-only. SageMaker has no such mode; it is for data too large to copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """Input data of a training job, under `/opt/ml/input/data/<name>` in the container."""

    name: str
    source: Path
    """The folder or file of this machine."""
    is_file: bool = False
    """True if `source` is a single file."""
    mode: InputMode = InputMode.FILE

    @property
    def target(self) -> str:
        """The path of the folder or file in the container. A single file keeps its name, as on SageMaker."""
        folder = f"{BASE}/input/data/{self.name}"
        return f"{folder}/{self.source.name}" if self.is_file else folder

    def pipe(self, epoch: int) -> str:
        """Return the path of the named pipe for one reading: 0 for the first, 1 for the second and so on."""
        return f"{BASE}/input/data/{self.name}_{epoch}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """One training job with every default applied. Raises `JobError` for values that CreateTrainingJob refuses."""

    name: str
    image: str
    region: str
    program: str
    """The entry point, relative to /opt/ml/code; empty if the image trains without a script of the user."""
    code: Mapping[str, Path]
    """Absolute path in the container -> the file or folder that is copied there."""
    parameters: Mapping[str, str]
    """The user's hyperparameters, as typed on the command line."""
    channels: tuple[Channel, ...] = ()
    instance_count: int = 1
    environment: Mapping[str, str]
    """The user's environment variables."""
    gpus: int = 0
    """GPUs of each container; `ALL_GPUS` for all."""
    max_run: float
    """Time limit of the job in seconds."""
    checkpoints: Path | None = None
    """The folder that is copied to /opt/ml/checkpoints and back; None if the job has no checkpoints."""

    def __post_init__(self) -> None:
        self._check_hyperparameters()
        for name in self.environment:
            if _VARIABLE_NAME.fullmatch(name) is None:
                raise JobError(f"{name!r} is not a valid name of an environment variable")
        if len(self.channels) > MAX_CHANNELS:
            raise JobError(f"{len(self.channels)} channels; SageMaker allows {MAX_CHANNELS}")
        for channel in self.channels:
            # "." and ".." match SageMaker's pattern, but here the name becomes part of a path
            if _CHANNEL_NAME.fullmatch(channel.name) is None or channel.name in (".", ".."):
                raise JobError(
                    f"{channel.name!r} is not a valid channel name;"
                    " use at most 64 letters, digits, dots, dashes and underscores"
                )

    def _check_hyperparameters(self) -> None:
        if len(self.parameters) > MAX_HYPERPARAMETERS:
            raise JobError(f"{len(self.parameters)} hyperparameters; SageMaker allows {MAX_HYPERPARAMETERS}")
        for name, value in self.parameters.items():
            if self.program and name in RESERVED:
                raise JobError(f"hyperparameter {name!r} is reserved: the SageMaker SDK sets it")
            if len(name) > MAX_HYPERPARAMETER_NAME or len(encode_value(value)) > MAX_HYPERPARAMETER_VALUE:
                raise JobError(
                    f"hyperparameter {name!r} is too long; SageMaker allows {MAX_HYPERPARAMETER_NAME} characters"
                    f" in a name and {MAX_HYPERPARAMETER_VALUE} in a value"
                )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names of the containers: `algo-1`, `algo-2` and so on."""
        return tuple(f"algo-{number}" for number in range(1, self.instance_count + 1))

    @property
    def instance_type(self) -> str:
        """The instance type that the container sees: `local` or `local_gpu`, as in the SDK's local mode."""
        return "local_gpu" if self.gpus else "local"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """The content of hyperparameters.json.

        With an entry point, each value is JSON text inside a JSON string, and the SDK's own parameters are added, as
        the SDK does. Without one, the values are those that the user typed.
        """
        if not self.program:
            return self.parameters
        own: dict[str, Any] = dict(zip(RESERVED, (self.program, CODE, self.name, self.region, _LOG_LEVEL), strict=True))
        encoded = {name: encode_value(value) for name, value in self.parameters.items()}
        return encoded | {name: json.dumps(value) for name, value in own.items()}

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of every container. The user's override SageMaker's."""
        arn = f"arn:aws:sagemaker:{self.region}:000000000000:training-job/{self.name}"
        return {
            "AWS_REGION": self.region,
            "TRAINING_JOB_NAME": self.name,
            "TRAINING_JOB_ARN": arn,
            **self.environment,
        }

    def config_files(self, host: str) -> Mapping[str, str]:
        """Return the files of /opt/ml/input/config for one host: absolute path -> text."""
        folder = f"{BASE}/input/config"
        configs = {
            "hyperparameters": self.hyperparameters,
            "inputdataconfig": self._input_data_config(),
            "resourceconfig": self._resource_config(host),
        }
        return {f"{folder}/{name}.json": json.dumps(config) for name, config in configs.items()}

    @property
    def copies(self) -> Mapping[str, Path]:
        """Absolute path in the container -> the file or folder that is copied there: code and File mode channels."""
        return {
            **self.code,
            **{channel.target: channel.source for channel in self.channels if channel.mode is InputMode.FILE},
        }

    @property
    def pipes(self) -> tuple[Channel, ...]:
        """The channels in Pipe mode."""
        return tuple(channel for channel in self.channels if channel.mode is InputMode.PIPE)

    @property
    def mounts(self) -> tuple[Channel, ...]:
        """The channels that are mounted."""
        return tuple(channel for channel in self.channels if channel.mode is InputMode.MOUNT)

    def _input_data_config(self) -> Mapping[str, Mapping[str, str]]:
        # Mount is reported as File: SageMaker has no such mode, and a script sees files in both.
        return {
            channel.name: {
                "TrainingInputMode": "Pipe" if channel.mode is InputMode.PIPE else "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for channel in self.channels
        }

    def _resource_config(self, host: str) -> Mapping[str, Any]:
        # SageMaker sorts the hosts as strings: `algo-10` comes before `algo-2`.
        hosts = sorted(self.hosts)
        group = {"instance_group_name": _INSTANCE_GROUP, "instance_type": self.instance_type, "hosts": hosts}
        return {
            "current_host": host,
            "current_instance_type": self.instance_type,
            "current_group_name": _INSTANCE_GROUP,
            "hosts": hosts,
            "instance_groups": [group],
            "network_interface_name": _NETWORK_INTERFACE,
        }


def encode_value(text: str) -> str:
    """Return a hyperparameter of the command line as JSON text, as the SDK encodes the same value in Python.

    A text that is valid JSON, such as `0.1`, `true` or `{"a": 1}`, is that value. Any other text is a string: `abc`
    becomes `"abc"`.
    """
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return json.dumps(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """The end of a training job: its status, and why."""

    status: JobStatus
    reason: str
    """Why it failed or was stopped, in one sentence; empty if it completed."""
    failure: str
    """The beginning of the failure file of the host that ended the job; empty if it wrote none."""
    codes: Mapping[str, int]
    """Host -> exit code of its container. Hosts that could not be started have none."""
    seconds: float
    """From the start of the first container to the end of the last."""
