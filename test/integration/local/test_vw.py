"""Vowpal Wabbit trains in the image, goes on from an earlier model, and is trained by the SageMaker SDK."""

import tarfile
from pathlib import Path

import bandit
import pytest

pytestmark = pytest.mark.toolkits("vw")

HYPERPARAMETERS = {"num_actions": bandit.ACTIONS, "exploration_policy": "--epsilon 0.1"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return bandit.write_log(tmp_path / "train", 500)


@pytest.fixture
def no_log(tmp_path: Path) -> Path:
    return bandit.write_log(tmp_path / "nothing", 1)


def metadata(output: Path) -> str:
    with tarfile.open(output / "model.tar.gz") as archive:
        return archive.extractfile("vw.metadata").read().decode()


def test_cb_explore(train, log) -> None:
    trained = train("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    assert {"vw.model", "vw.metadata"} <= set(trained.model)
    words = metadata(trained.output).split()
    assert words[words.index("--cb_explore") + 1] == "4"
    assert words[words.index("--epsilon") + 1] == "0.1"


def test_cb_explore_goes_on_from_a_pretrained_model(train, log, no_log) -> None:
    first = train("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    channels = {"train": no_log, "pretrained_model": first.output / "model.tar.gz"}
    second = train("vw/train_bandit.py", HYPERPARAMETERS, channels)
    assert {"vw.model", "vw.metadata"} <= set(second.model)
    assert size(second.output) >= size(first.output)


def size(output: Path) -> int:
    """Bytes of the policy: one that has seen little has few weights."""
    with tarfile.open(output / "model.tar.gz") as archive:
        return archive.getmember("vw.model").size


def test_cb_explore_by_the_sdk(fit, log) -> None:
    trained = fit("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    assert "success" in trained.data
    assert {"vw.model", "vw.metadata"} <= set(trained.model)
    assert "--epsilon 0.1" in metadata(trained.output)
