"""Play environments of gym or gymnasium on SageMaker."""

import pytest

pytestmark = pytest.mark.toolkits("coach", "ray")


def test_simple_environments_are_played(job) -> None:
    assert job("gym/play.py", {})["TrainingJobStatus"] == "Completed"
