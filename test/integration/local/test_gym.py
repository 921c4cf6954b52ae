"""Play environments of gym or gymnasium in the image; record a video if the image has a display."""

import pytest

pytestmark = pytest.mark.toolkits("coach", "ray")


@pytest.fixture
def filming(local_image) -> int:
    return int(any(variable.startswith("RLIMAGES_SCREEN=") for variable in local_image.env))


def test_simple_environments_are_played(train, filming) -> None:
    result = train("gym/play.py", {"film": filming})
    assert result.log.count(" steps") == 7
    assert "played.txt" in result.model
    if filming:
        assert [name for name in result.data if name.endswith(".mp4")]
