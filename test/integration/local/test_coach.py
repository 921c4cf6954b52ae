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
"""The metric `reward-training` of `RLEstimator.default_metric_definitions`."""


def test_coach_trains_cartpole(train) -> None:
    result = train("coach/train_cartpole.py", HYPERPARAMETERS)
    assert REWARD.search(result.log)
    assert any("checkpoint" in name for name in result.model)
