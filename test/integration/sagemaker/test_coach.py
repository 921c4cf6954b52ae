"""Train with Coach on SageMaker."""

import pytest

pytestmark = pytest.mark.toolkits("coach")

HYPERPARAMETERS = {
    "save_model": 1,
    "RLCOACH_PRESET": "preset_cartpole_clippedppo",
    "rl.agent_params.algorithm.discount": 0.9,
    "rl.evaluation_steps:EnvironmentEpisodes": 1,
}


def test_coach_trains_cartpole(job) -> None:
    description = job("coach/train_cartpole.py", HYPERPARAMETERS, metrics="COACH")
    assert description["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
