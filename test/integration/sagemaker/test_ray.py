"""Ray trains on SageMaker, which reads its metrics."""

import pytest

pytestmark = pytest.mark.toolkits("ray")


def test_cartpole(job) -> None:
    description = job("ray/train_cartpole.py", {"rl.training.config.lr": 0.0005}, metrics="RAY")
    assert description["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert "episode_reward_mean" in {metric["MetricName"] for metric in description["FinalMetricDataList"]}
