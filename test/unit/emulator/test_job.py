from datetime import UTC, datetime

import pytest

from rlimages.emulator.job import make_job_name, parse_gpus, parse_pairs
from rlimages.errors import JobError


def test_a_pair_is_split_at_its_first_equals_sign() -> None:
    assert parse_pairs(["a=b=c", "d="], "-p") == {"a": "b=c", "d": ""}


@pytest.mark.parametrize(("arguments", "message"), [(["a"], "-p a: write it as NAME=VALUE"), (["=b"], "-p =b: write it"), (["a=1", "a=2"], "-p a is given twice")])  # fmt: skip
def test_an_argument_that_is_not_a_pair_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(JobError, match=message):
        parse_pairs(arguments, "-p")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("sagemaker-rl-vw-container:vw-9.11.9", "sagemaker-rl-vw-container"),
        ("127.0.0.1:5000/team/my_image:1", "my-image"),
        ("x@sha256:abc", "x"),
        ("__", "job"),
    ],
)
def test_a_job_name_has_the_image_the_time_and_the_process(image: str, name: str) -> None:
    now = datetime(2026, 11, 21, 9, 8, 7, 6543, tzinfo=UTC)
    assert make_job_name(image, now, 4321) == f"{name}-2026-11-21-09-08-07-006-4321"


def test_a_job_name_has_at_most_63_characters() -> None:
    assert len(make_job_name("x" * 200, datetime.now(UTC), 4194304)) <= 63


@pytest.mark.parametrize(("argument", "gpus"), [(None, 0), ("2", 2), ("all", -1)])
def test_gpus_are_a_number_or_all(argument: str | None, gpus: int) -> None:
    assert parse_gpus(argument) == gpus


def test_gpus_that_are_not_a_number_are_refused() -> None:
    with pytest.raises(JobError, match="--gpus some: give a number, or all"):
        parse_gpus("some")
