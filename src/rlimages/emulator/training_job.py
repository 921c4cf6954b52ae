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
"""The limits of CreateTrainingJob, from `MAX_HYPERPARAMETERS` to here. Lengths are in characters."""
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
"""Name that SageMaker gives to the only instance group of a job that defines none."""
_NETWORK_INTERFACE = "eth0"
_VARIABLE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}")
"""The names of environment variables that CreateTrainingJob accepts."""
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""The names of channels that CreateTrainingJob accepts."""


class InputMode(StrEnum):
    """How the container gets the data of a channel. The values are those of `--input-mode`."""

    FILE = "File"
    """A copy, which the script may change."""
    PIPE = "Pipe"
    """Named pipes: a new one each time that the script reads the channel."""
    MOUNT = "Mount"
    """The files of this machine, mounted read-only. SageMaker has no such mode; it is for data too large to copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """Input data of a training job. The container finds it under `/opt/ml/input/data/<name>`."""

    name: str
    source: Path
    """The folder or file of this machine with the data."""
    is_file: bool = False
    """True if `source` is a single file."""
    mode: InputMode = InputMode.FILE

    @property
    def target(self) -> str:
        """The path of the data in the container.

        A single file keeps its name below the channel's folder, as on SageMaker.
        """
        folder = f"{BASE}/input/data/{self.name}"
        return f"{folder}/{self.source.name}" if self.is_file else folder

    def pipe(self, epoch: int) -> str:
        """Return the path in the container of the named pipe that the script reads in `epoch`.

        An epoch is one reading of the channel: 0 is the first, 1 the second and so on.
        """
        return f"{BASE}/input/data/{self.name}_{epoch}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """The configuration of one training job, with every default applied.

    The constructor raises `JobError` for values that CreateTrainingJob refuses.
    """

    name: str
    image: str
    region: str
    """The AWS region that the containers find in AWS_REGION."""
    program: str
    """The entry point, relative to /opt/ml/code; empty if the image trains without a script of the user."""
    code: Mapping[str, Path]
    """Absolute path in the container -> the file or folder of this machine that is copied there."""
    parameters: Mapping[str, str]
    """Name -> value of the user's hyperparameters, as typed on the command line."""
    channels: tuple[Channel, ...] = ()
    instance_count: int = 1
    """Number of hosts, each of which is one container."""
    environment: Mapping[str, str]
    """The user's environment variables."""
    gpus: int = 0
    """Number of GPUs of each container; `ALL_GPUS` for all GPUs of this machine."""
    max_run: float
    """Time limit of the job in seconds."""
    checkpoints: Path | None = None
    """The folder that is copied to /opt/ml/checkpoints and back; None if the job has no checkpoints."""

    def __post_init__(self) -> None:
        """Raise `JobError` for values that CreateTrainingJob refuses."""
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
        """Raise `JobError` if a hyperparameter is reserved or too long, or if there are too many."""
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
        """The instance type in resourceconfig.json: `local_gpu` with GPUs, else `local`, as in the SDK's local mode."""
        return "local_gpu" if self.gpus else "local"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """The content of hyperparameters.json: name -> value.

        If the job has an entry point, each value is JSON text inside a JSON string, and the hyperparameters of the
        SageMaker SDK (`RESERVED`) are added, as the SDK does. Without an entry point, the values are those that the
        user typed.
        """
        if not self.program:
            return self.parameters
        own: dict[str, Any] = dict(zip(RESERVED, (self.program, CODE, self.name, self.region, _LOG_LEVEL), strict=True))
        encoded = {name: encode_value(value) for name, value in self.parameters.items()}
        return encoded | {name: json.dumps(value) for name, value in own.items()}

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of every container. The user's variables override those of SageMaker."""
        arn = f"arn:aws:sagemaker:{self.region}:000000000000:training-job/{self.name}"
        return {
            "AWS_REGION": self.region,
            "TRAINING_JOB_NAME": self.name,
            "TRAINING_JOB_ARN": arn,
            **self.environment,
        }

    def config_files(self, host: str) -> Mapping[str, str]:
        """Return the files of /opt/ml/input/config for the host named `host`: absolute path -> JSON text."""
        folder = f"{BASE}/input/config"
        configs = {
            "hyperparameters": self.hyperparameters,
            "inputdataconfig": self._input_data_config(),
            "resourceconfig": self._resource_config(host),
        }
        return {f"{folder}/{name}.json": json.dumps(config) for name, config in configs.items()}

    @property
    def copies(self) -> Mapping[str, Path]:
        """Absolute path in the container -> the file or folder of this machine that is copied there.

        These are the user's code and the channels in File mode.
        """
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
        """The channels whose data is mounted (mode Mount)."""
        return tuple(channel for channel in self.channels if channel.mode is InputMode.MOUNT)

    def _input_data_config(self) -> Mapping[str, Mapping[str, str]]:
        """Return the content of inputdataconfig.json: name of each channel -> its settings."""
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
        """Return the content of resourceconfig.json for the host named `host`."""
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
    """Return `text`, a hyperparameter's value on the command line, as the SageMaker SDK writes the value as JSON.

    A text that is valid JSON, such as `0.1`, `true` or `{"a": 1}`, stands for that number, boolean or object. Any other
    text is a string: `abc` becomes `"abc"`.
    """
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return json.dumps(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """How a training job ended: its status, the reason, and the exit codes of its hosts."""

    status: JobStatus
    reason: str
    """Why the job failed or was stopped, in one sentence; empty if it completed."""
    failure: str
    """The first 1024 characters of the failure file of the host that failed; empty if none failed or it wrote none."""
    codes: Mapping[str, int]
    """Name of each host -> exit code of its container. Hosts that could not be started have none."""
    seconds: float
    """Seconds from the start of the first container to the end of the last."""
