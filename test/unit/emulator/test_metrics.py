import pytest

from rlimages.emulator.metrics import Metrics, sparkline
from rlimages.errors import JobError

RAY = r"episode_reward_mean: ([-+]?[0-9]*[.]?[0-9]+([eE][-+]?[0-9]+)?)"


def test_a_value_is_the_first_group_of_each_match() -> None:
    metrics = Metrics([("reward", RAY), ("other", "x=([^ ]+)")])
    for line in ("episode_reward_mean: 21.5", "nothing", "episode_reward_mean: -1e2 x=1 x=two x=3"):
        metrics.read_line(line)
    assert metrics.values == {"reward": [21.5, -100.0], "other": [1.0, 3.0]}


def test_each_metric_is_printed_as_one_line() -> None:
    metrics = Metrics([("reward", "r=(.*)"), ("loss", "l=(.*)"), ("no", "n=(.*)")])
    for line in ("r=1", "r=3", "l=2"):
        metrics.read_line(line)
    assert list(metrics.lines()) == [
        "reward  ▁█  2 values, first 1, last 3, lowest 1, highest 3",
        "loss    ▁  1 value, first 2, last 2, lowest 2, highest 2",
        "no      no line of the log matched",
    ]


@pytest.mark.parametrize(("regex", "message"), [("(", "is not a valid regular expression"), ("reward", "has no group")])
def test_a_regular_expression_without_a_value_is_refused(regex: str, message: str) -> None:
    with pytest.raises(JobError, match=f"--metric m: .*{message}"):
        Metrics([("m", regex)])


def test_a_long_series_is_drawn_as_means_within_the_width() -> None:
    assert sparkline(range(800), width=8) == "▁▂▃▄▅▆▇█"
    assert len(sparkline(range(41), width=40)) == 40


@pytest.mark.parametrize(("values", "line"), [([], ""), ([5, 5, 5], "▁▁▁"), ([1, float("nan"), float("inf"), 2], "▁█")])
def test_values_that_are_not_finite_are_not_drawn(values: list[float], line: str) -> None:
    assert sparkline(values) == line
