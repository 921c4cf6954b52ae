"""Train with Ray on SageMaker, which reads the metrics."""

import pytest

pytestmark = pytest.mark.toolkits("ray")


def test_ray_trains_cartpole_and_sagemaker_reads_its_metrics(job) -> None:
    description = job("ray/train_cartpole.py", {"rl.training.config.lr": 0.0005}, metrics="RAY")
    assert description["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert "episode_reward_mean" in {metric["MetricName"] for metric in description["FinalMetricDataList"]}
