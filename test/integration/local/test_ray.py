"""Ray trains in the image, by `rlimages train` and by the SageMaker SDK's local mode."""

import json

import pytest

pytestmark = pytest.mark.toolkits("ray")

HYPERPARAMETERS = {"rl.training.stop.training_iteration": 2, "rl.training.config.lr": 0.0005}


def check_model(trained) -> None:
    assert {"params.json", "checkpoint"} <= {name.split("/")[0] for name in trained.model}
    assert json.loads(trained.read("params.json"))["lr"] == 0.0005, "the script itself says 0.01"


def test_cartpole_trains_on_two_hosts(train) -> None:
    """One cluster of two containers, found by the names in resourceconfig.json; the worker ends with the head."""
    trained = train("ray/train_cartpole.py", HYPERPARAMETERS, hosts=2)
    for sentence in ("all 2 hosts form one Ray cluster", "algo-1 has ended, and algo-2 ends with it"):
        assert sentence in trained.said, trained.said[-3000:]
    check_model(trained)


def test_cartpole_trains_on_one_host_through_the_sdk(fit) -> None:
    """The SDK runs the same container as `rlimages train` with one host does."""
    trained = fit("ray/train_cartpole.py", HYPERPARAMETERS, toolkit="RAY")
    assert "success" in trained.data
    check_model(trained)
    assert set(trained.metrics) == {"episode_reward_mean", "episode_reward_max"}
    assert all(trained.metrics.values())
