"""Environments of gym, or of gymnasium, are played in the image, and filmed where it promises a display."""

import pytest

pytestmark = pytest.mark.toolkits("coach", "ray")


@pytest.fixture
def filming(local_image) -> int:
    return int(any(word.startswith("RLIMAGES_SCREEN=") for word in local_image.env))


def test_simple_environments_are_played(train, filming) -> None:
    trained = train("gym/play.py", {"film": filming})
    assert trained.said.count(" steps") == 7
    assert "played.txt" in trained.model
    if filming:
        assert [name for name in trained.data if name.endswith(".mp4")]
