"""Train with Vowpal Wabbit on SageMaker from decisions in S3."""

from pathlib import Path

import bandit
import pytest

pytestmark = pytest.mark.toolkits("vw")


def test_cb_explore_trains_a_policy(job, session, tmp_path: Path) -> None:
    log = bandit.write_log(tmp_path / "train", 500)
    inputs = {"train": session.upload_data(str(log), key_prefix="rlimages-test/bandit")}
    description = job("vw/train_bandit.py", {"num_actions": bandit.ACTIONS}, inputs=inputs)
    assert description["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
