"""Training jobs on this machine, in the image that the options name: by `rlimages train`, and by the SageMaker SDK."""

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
import local_mode
import pytest
import sdk
import wanted

from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import InspectedImage
from rlimages.errors import ToolError
from rlimages.system.process import Stop

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training job left behind."""

    said: str
    output: Path
    metrics: Mapping[str, list[tuple[str, ...]]] = field(default_factory=dict)
    """What the SDK's metric definitions find in what was said."""

    @property
    def model(self) -> list[str]:
        """The files of model.tar.gz."""
        return names(self.output / "model.tar.gz")

    def read(self, name: str) -> str:
        """A file of model.tar.gz."""
        with tarfile.open(self.output / "model.tar.gz") as opened:
            member = next(entry for entry in opened if entry.name.removeprefix("./") == name)
            file = opened.extractfile(member)
            assert file is not None
            return file.read().decode()

    @property
    def data(self) -> list[str]:
        """The files of output.tar.gz."""
        return names(self.output / "output.tar.gz")


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return [entry.name.removeprefix("./") for entry in opened if entry.isfile()]


@pytest.fixture(scope="session")
def local_image(pytestconfig: pytest.Config) -> InspectedImage:
    reference = wanted.image(pytestconfig.getoption)
    engine = DockerEngine(run="integration", stop=Stop())
    try:
        found = engine.inspect(reference)
    except ToolError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        engine.close()
    if found is None:
        pytest.fail(f"there is no image {reference} in the local store; build or pull it first", pytrace=False)
    return found


@pytest.fixture(scope="session")
def image(local_image: InspectedImage, pytestconfig: pytest.Config) -> str:
    """The name of an image that is here."""
    return wanted.image(pytestconfig.getoption)


@pytest.fixture(scope="session")
def client(image: str) -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def train_in(image: str, pytestconfig: pytest.Config) -> Callable[..., Trained]:
    """A job of `rlimages train` that must complete, whose results go into a folder."""

    def train(
        folder: Path,
        script: str,
        hyperparameters: Mapping[str, object],
        channels: Mapping[str, Path] | None = None,
        hosts: int = 1,
    ) -> Trained:
        source = RESOURCES / script
        output = folder / f"output-{len(list(folder.iterdir()))}"
        words = [
            "--instance-count",
            str(hosts),
            "--entry-point",
            source.name,
            "--source-dir",
            str(source.parent),
            "--output",
            str(output),
        ]
        words += ["--max-run", str(SECONDS)]
        words += [word for name, value in hyperparameters.items() for word in ("-p", f"{name}={value}")]
        words += [word for name, path in (channels or {}).items() for word in ("--channel", f"{name}={path}")]
        words += ["--gpus", "all"] if pytestconfig.getoption("--processor") == "gpu" else []
        argv = [sys.executable, "-m", "rlimages", "train", image, *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        assert "Completed after" in done.stdout
        return Trained(said=done.stdout, output=output)

    return train


@pytest.fixture
def train(train_in: Callable[..., Trained], tmp_path: Path) -> Callable[..., Trained]:
    """The same: a script of test/resources, hyperparameters, channels, how many hosts."""
    return partial(train_in, tmp_path)


@pytest.fixture
def fit(image: str, client: docker.DockerClient, pytestconfig, tmp_path: Path) -> Iterator[Callable[..., Trained]]:
    """The same by the SageMaker SDK: `RLEstimator(instance_type="local", ...).fit()`."""
    sdk.need()

    def fit(
        script: str,
        hyperparameters: Mapping[str, object],
        channels: Mapping[str, Path] | None = None,
        toolkit: str | None = None,
    ) -> Trained:
        source = RESOURCES / script
        output = tmp_path / "sdk" / "output"
        output.mkdir(parents=True)
        order = {
            "image": image,
            "entry_point": source.name,
            "source_dir": str(source.parent),
            "output": str(output),
            "hyperparameters": hyperparameters,
            "channels": {name: str(path) for name, path in (channels or {}).items()},
            "toolkit": toolkit,
            "instance_type": "local_gpu" if pytestconfig.getoption("--processor") == "gpu" else "local",
        }
        (tmp_path / "order.json").write_text(json.dumps(order))
        done = subprocess.run(
            [sys.executable, local_mode.__file__, tmp_path / "order.json"],
            env=local_mode.environment(tmp_path, pytestconfig.getoption("--region")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        metrics = json.loads((tmp_path / "order.metrics").read_text())
        found = {metric["Name"]: re.findall(metric["Regex"], done.stdout) for metric in metrics}
        return Trained(said=done.stdout, output=output, metrics=found)

    with local_mode.nothing_left(client, tmp_path):
        yield fit
