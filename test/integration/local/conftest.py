"""Fixtures for training jobs on this machine: with `rlimages train` and with the SageMaker SDK."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import docker
import image_options
import local_mode
import pytest
import sdk

from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import InspectedImage
from rlimages.errors import ToolError
from rlimages.system.process import Stop

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
MAX_RUN_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The log and the output folder of a training job."""

    log: str
    output: Path
    metrics: Mapping[str, list[tuple[str, ...]]] = field(default_factory=dict)
    """The values that the metric definitions of the SDK find in the log."""

    @property
    def model(self) -> list[str]:
        """The names of the files in model.tar.gz."""
        return file_names(self.output / "model.tar.gz")

    def read(self, name: str) -> str:
        """Return the text of a file in model.tar.gz."""
        with tarfile.open(self.output / "model.tar.gz") as archive:
            member = next(entry for entry in archive if entry.name.removeprefix("./") == name)
            file = archive.extractfile(member)
            assert file is not None
            return file.read().decode()

    @property
    def data(self) -> list[str]:
        """The names of the files in output.tar.gz."""
        return file_names(self.output / "output.tar.gz")


def file_names(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [entry.name.removeprefix("./") for entry in archive if entry.isfile()]


@pytest.fixture(scope="session")
def local_image(pytestconfig: pytest.Config) -> InspectedImage:
    reference = image_options.image(pytestconfig.getoption)
    engine = DockerEngine(run="integration", stop=Stop())
    try:
        image_facts = engine.inspect(reference)
    except ToolError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        engine.close()
    if image_facts is None:
        pytest.fail(f"there is no image {reference} in the local store; build or pull it first", pytrace=False)
    return image_facts


@pytest.fixture(scope="session")
def image(local_image: InspectedImage, pytestconfig: pytest.Config) -> str:
    """Return the name of the image, which is in the local store."""
    return image_options.image(pytestconfig.getoption)


@pytest.fixture(scope="session")
def client(image: str) -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def train_in_folder(image: str, pytestconfig: pytest.Config) -> Callable[..., TrainingResult]:
    """Return a function that runs a job with `rlimages train`, which must complete. The results go into a folder."""

    def train(
        folder: Path,
        script: str,
        hyperparameters: Mapping[str, object],
        channels: Mapping[str, Path] | None = None,
        hosts: int = 1,
    ) -> TrainingResult:
        source = RESOURCES / script
        output = folder / f"output-{len(list(folder.iterdir()))}"
        arguments = [
            "--instance-count",
            str(hosts),
            "--entry-point",
            source.name,
            "--source-dir",
            str(source.parent),
            "--output",
            str(output),
        ]
        arguments += ["--max-run", str(MAX_RUN_SECONDS)]
        arguments += [argument for name, value in hyperparameters.items() for argument in ("-p", f"{name}={value}")]
        arguments += [
            argument for name, path in (channels or {}).items() for argument in ("--channel", f"{name}={path}")
        ]
        arguments += ["--gpus", "all"] if pytestconfig.getoption("--processor") == "gpu" else []
        argv = [sys.executable, "-m", "rlimages", "train", image, *arguments]
        result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert result.returncode == 0, result.stdout[-6000:]
        assert "Completed after" in result.stdout
        return TrainingResult(log=result.stdout, output=output)

    return train


@pytest.fixture
def train(train_in_folder: Callable[..., TrainingResult], tmp_path: Path) -> Callable[..., TrainingResult]:
    """Return the same function for the folder of a test: script of test/resources, hyperparameters, channels, hosts."""
    return partial(train_in_folder, tmp_path)


@pytest.fixture
def fit(
    image: str, client: docker.DockerClient, pytestconfig, tmp_path: Path
) -> Iterator[Callable[..., TrainingResult]]:
    """Return a function that trains with the SageMaker SDK: `RLEstimator(instance_type="local", ...).fit()`."""
    sdk.require_sdk()

    def fit(
        script: str,
        hyperparameters: Mapping[str, object],
        channels: Mapping[str, Path] | None = None,
        toolkit: str | None = None,
    ) -> TrainingResult:
        source = RESOURCES / script
        output = tmp_path / "sdk" / "output"
        output.mkdir(parents=True)
        job_options = {
            "image": image,
            "entry_point": source.name,
            "source_dir": str(source.parent),
            "output": str(output),
            "hyperparameters": hyperparameters,
            "channels": {name: str(path) for name, path in (channels or {}).items()},
            "toolkit": toolkit,
            "instance_type": "local_gpu" if pytestconfig.getoption("--processor") == "gpu" else "local",
        }
        (tmp_path / "job.json").write_text(json.dumps(job_options))
        result = subprocess.run(
            [sys.executable, local_mode.__file__, tmp_path / "job.json"],
            env=local_mode.environment(tmp_path, pytestconfig.getoption("--region")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-6000:]
        metrics = json.loads((tmp_path / "job.metrics").read_text())
        metric_values = {metric["Name"]: re.findall(metric["Regex"], result.stdout) for metric in metrics}
        return TrainingResult(log=result.stdout, output=output, metrics=metric_values)

    with local_mode.remove_leftovers(client, tmp_path):
        yield fit
