"""Train with Vowpal Wabbit in the image: from scratch, from an earlier model, and with the SageMaker SDK."""

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
def short_log(tmp_path: Path) -> Path:
    return bandit.write_log(tmp_path / "nothing", 1)


def metadata(output: Path) -> str:
    with tarfile.open(output / "model.tar.gz") as archive:
        return archive.extractfile("vw.metadata").read().decode()


def test_cb_explore_trains_a_policy(train, log) -> None:
    result = train("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    assert {"vw.model", "vw.metadata"} <= set(result.model)
    arguments = metadata(result.output).split()
    assert arguments[arguments.index("--cb_explore") + 1] == "4"
    assert arguments[arguments.index("--epsilon") + 1] == "0.1"


def test_cb_explore_continues_from_a_pretrained_model(train, log, short_log) -> None:
    first = train("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    channels = {"train": short_log, "pretrained_model": first.output / "model.tar.gz"}
    second = train("vw/train_bandit.py", HYPERPARAMETERS, channels)
    assert {"vw.model", "vw.metadata"} <= set(second.model)
    assert policy_size(second.output) >= policy_size(first.output)


def policy_size(output: Path) -> int:
    """Return the size of the policy in bytes. A policy that was trained on little data has few weights."""
    with tarfile.open(output / "model.tar.gz") as archive:
        return archive.getmember("vw.model").size


def test_cb_explore_trains_with_the_sdk(fit, log) -> None:
    result = fit("vw/train_bandit.py", HYPERPARAMETERS, {"train": log})
    assert "success" in result.data
    assert {"vw.model", "vw.metadata"} <= set(result.model)
    assert "--epsilon 0.1" in metadata(result.output)
