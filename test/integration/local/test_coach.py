"""Coach trains in the image."""

import re

import pytest

pytestmark = pytest.mark.toolkits("coach")

HYPERPARAMETERS = {
    "save_model": 1,
    "RLCOACH_PRESET": "preset_cartpole_clippedppo",
    "rl.agent_params.algorithm.discount": 0.9,
    "rl.evaluation_steps:EnvironmentEpisodes": 1,
}
REWARD = re.compile(r"^Training>.*Total reward=(.*?),", re.MULTILINE)
"""`reward-training` of `RLEstimator.default_metric_definitions`."""


def test_cartpole(train) -> None:
    trained = train("coach/train_cartpole.py", HYPERPARAMETERS)
    assert REWARD.search(trained.said)
    assert any("checkpoint" in name for name in trained.model)
