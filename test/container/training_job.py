"""One training job as SageMaker starts it, `docker run IMAGE train`, with /opt/ml in a folder of this machine."""

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
SHOWN = 1024
"""Characters of the failure file that SageMaker shows."""
TIMEOUT = 100
"""Seconds for one container; ending `docker run` alone would leave it running."""


def image_of(cell: Cell) -> str:
    """The image of a cell, or what RLIMAGES_TEST_IMAGES (`CELL=IMAGE ...`) puts in its place."""
    others = dict(pair.split("=", 1) for pair in os.environ.get("RLIMAGES_TEST_IMAGES", "").split())
    return others.get(cell.id, cell.local_name)


def is_here(image: str) -> bool:
    return not subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a container ended."""

    code: int
    out: str
    err: str
    seconds: float
    folder: Path

    @property
    def failure(self) -> str:
        """What SageMaker shows of the failure file; empty without one."""
        path = self.folder / "output/failure"
        return path.read_text()[:SHOWN] if path.exists() else ""

    @property
    def succeeded(self) -> bool:
        return self.code == 0 and (self.folder / "output/success").exists()

    def model(self, name: str) -> str:
        """A file that the script has left as its model."""
        return (self.folder / "model" / name).read_text()


class Job:
    """A job of an image: its files are written when it is made, its container starts with `start` or `run`."""

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
        own = {"sagemaker_region": "us-west-2", "sagemaker_job_name": "a-job"}
        own |= {"sagemaker_program": program} if program else {}
        encoded = {name: json.dumps(value) for name, value in {**own, **dict(parameters or {})}.items()}
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
        (self.folder / f"input/config/{file}.json").write_text(text)

    def argv(self, *options: str, words: Sequence[str] = ("train",)) -> list[str]:
        network = () if any(option.startswith("--network") for option in options) else ("--network=none",)
        platform = ("-e", "AWS_REGION=us-west-2", "-e", "TRAINING_JOB_NAME=a-job", "-v", f"{self.folder}:/opt/ml")
        return ["docker", "run", "--rm", "--name", self.name, *network, *platform, *options, self.image, *words]

    def start(self, *options: str, line: str = "ready") -> subprocess.Popen[str]:
        """The container, once its script has printed a line."""
        process = subprocess.Popen(self.argv(*options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        said = []
        for said_line in process.stdout:
            said.append(said_line)
            if line in said_line:
                return process
        raise AssertionError("".join(said))

    def run(self, *options: str, words: Sequence[str] = ("train",)) -> Ended:
        began = time.monotonic()
        process = subprocess.Popen(
            self.argv(*options, words=words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            self.remove()
        seconds = time.monotonic() - began
        return Ended(code=process.returncode, out=out, err=err, seconds=seconds, folder=self.folder)

    def remove(self) -> None:
        """End the container, if it still runs."""
        subprocess.run(["docker", "rm", "-f", self.name], capture_output=True, check=False)
