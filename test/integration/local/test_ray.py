"""Train with Ray in the image: with `rlimages train` and with the local mode of the SageMaker SDK."""

import json

import pytest

pytestmark = pytest.mark.toolkits("ray")

HYPERPARAMETERS = {"rl.training.stop.training_iteration": 2, "rl.training.config.lr": 0.0005}


def check_model(result) -> None:
    assert {"params.json", "checkpoint"} <= {name.split("/")[0] for name in result.model}
    assert json.loads(result.read("params.json"))["lr"] == 0.0005, "the hyperparameter replaces 0.01 of the script"


def test_ray_trains_cartpole_on_two_hosts(train) -> None:
    """The containers form one cluster by the host names in resourceconfig.json; the worker ends with the head."""
    result = train("ray/train_cartpole.py", HYPERPARAMETERS, hosts=2)
    for message in ("all 2 hosts form one Ray cluster", "algo-1 has ended, and algo-2 ends with it"):
        assert message in result.log, result.log[-3000:]
    check_model(result)


def test_ray_trains_cartpole_on_one_host_through_the_sdk(fit) -> None:
    """The SDK runs the same container as `rlimages train` with one host."""
    result = fit("ray/train_cartpole.py", HYPERPARAMETERS, toolkit="RAY")
    assert "success" in result.data
    check_model(result)
    assert set(result.metrics) == {"episode_reward_mean", "episode_reward_max"}
    assert all(result.metrics.values())
