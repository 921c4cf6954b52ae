"""A training job as SageMaker starts it: `docker run IMAGE train` with a folder of this machine as /opt/ml."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.matrix.cell import Cell, select_cells
from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[2]
CELLS = {cell.id: cell for cell in select_cells(load_project(ROOT / "build_matrix.yaml", ROOT).cells, ["*-cpu-debian"])}
FAILURE_LENGTH = 1024
"""Number of characters of the failure file that SageMaker shows."""
TIMEOUT = 100
"""Seconds that a container may run. It is then removed, because it would outlive its `docker run`."""


def image_of(cell: Cell) -> str:
    """Return the local image of `cell`; the variable RLIMAGES_TEST_IMAGES (`CELL=IMAGE ...`) can name another one."""
    replacements = dict(pair.split("=", 1) for pair in os.environ.get("RLIMAGES_TEST_IMAGES", "").split())
    return replacements.get(cell.id, cell.local_name)


def is_local(image: str) -> bool:
    """Return True if the local store has the image named `image`."""
    return not subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a container: exit code, output, and the folder that was /opt/ml."""

    code: int
    out: str
    err: str
    seconds: float
    folder: Path

    @property
    def failure(self) -> str:
        """The part of the failure file that SageMaker shows; empty without the file."""
        path = self.folder / "output/failure"
        return path.read_text()[:FAILURE_LENGTH] if path.exists() else ""

    @property
    def succeeded(self) -> bool:
        return self.code == 0 and (self.folder / "output/success").exists()

    def model(self, name: str) -> str:
        """Return the text of a file in the model folder."""
        return (self.folder / "model" / name).read_text()


class Job:
    """A training job of an image. Its constructor writes the files of /opt/ml; `start` or `run` starts its container."""

    def __init__(
        self,
        image: str,
        folder: Path,
        files: Mapping[str, str],
        *,
        program: str = "job.py",
        parameters: Mapping[str, Any] | str = "",
        hosts: Sequence[str] = ("algo-1",),
        name: str,
    ) -> None:
        self.image, self.folder, self.name = image, folder, name
        for part in ("input/config", "input/data/train", "code", "model", "output/data"):
            (folder / part).mkdir(parents=True)
        for path, text in files.items():
            (folder / "code" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "code" / path).write_text(text)
        hyperparameters = {"sagemaker_region": "us-west-2", "sagemaker_job_name": "a-job"}
        hyperparameters |= {"sagemaker_program": program} if program else {}
        encoded = {name: json.dumps(value) for name, value in {**hyperparameters, **dict(parameters or {})}.items()}
        groups = [{"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": list(hosts)}]
        resources = {
            "current_host": "algo-1",
            "current_instance_type": "local",
            "current_group_name": "homogeneousCluster",
            "hosts": list(hosts),
            "instance_groups": groups,
            "network_interface_name": "eth0",
        }
        for file, content in (
            ("hyperparameters", encoded),
            ("inputdataconfig", {"train": {"TrainingInputMode": "File"}}),
            ("resourceconfig", resources),
        ):
            self.configure(file, json.dumps(content))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)

    def configure(self, file: str, text: str) -> None:
        """Write `text` to the file named `file` in /opt/ml/input/config."""
        (self.folder / f"input/config/{file}.json").write_text(text)

    def argv(self, *options: str, arguments: Sequence[str] = ("train",)) -> list[str]:
        """Return the `docker run` command of the job, with more `options` and the `arguments` of the image."""
        network = () if any(option.startswith("--network") for option in options) else ("--network=none",)
        platform = ("-e", "AWS_REGION=us-west-2", "-e", "TRAINING_JOB_NAME=a-job", "-v", f"{self.folder}:/opt/ml")
        return ["docker", "run", "--rm", "--name", self.name, *network, *platform, *options, self.image, *arguments]

    def start(self, *options: str, line: str = "ready") -> subprocess.Popen[str]:
        """Start the container, and return its process when it has printed a line that contains `line`."""
        process = subprocess.Popen(self.argv(*options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        lines = []
        for output_line in process.stdout:
            lines.append(output_line)
            if line in output_line:
                return process
        raise AssertionError("".join(lines))

    def run(self, *options: str, arguments: Sequence[str] = ("train",)) -> JobResult:
        """Run the container to its end and return its result."""
        started_at = time.monotonic()
        process = subprocess.Popen(
            self.argv(*options, arguments=arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            self.remove()
        seconds = time.monotonic() - started_at
        return JobResult(code=process.returncode, out=out, err=err, seconds=seconds, folder=self.folder)

    def remove(self) -> None:
        """Remove the container, also if it still runs."""
        subprocess.run(["docker", "rm", "-f", self.name], capture_output=True, check=False)
