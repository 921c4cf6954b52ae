"""Ray trains in the image, by `rlimages train` and by the SageMaker SDK's local mode."""

import pytest

pytestmark = pytest.mark.toolkits("ray")

HYPERPARAMETERS = {"rl.training.stop.training_iteration": 2, "rl.training.config.lr": 0.0005}


def test_cartpole(train) -> None:
    trained = train("ray/train_cartpole.py", HYPERPARAMETERS)
    assert {"params.json", "checkpoint"} <= {name.split("/")[0] for name in trained.model}


def test_cartpole_by_the_sdk(fit) -> None:
    hyperparameters = {**HYPERPARAMETERS, "rl.training.stop.training_iteration": 1}
    trained = fit("ray/train_cartpole.py", hyperparameters, toolkit="RAY")
    assert "success" in trained.data
    assert "params.json" in trained.model
    assert set(trained.metrics) == {"episode_reward_mean", "episode_reward_max"}
    assert all(trained.metrics.values())
