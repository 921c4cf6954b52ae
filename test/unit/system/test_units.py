from datetime import timedelta

import pytest

from rlimages.errors import UsageError
from rlimages.system.units import (
    format_binary_size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 MB"), (227_400_000, "227 MB"), (1_934_000_000, "1.93 GB"), (5 * 10**9, "5 GB"), (40 * 10**9, "40 GB")],
)
def test_a_size_is_shown_in_decimal_units(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("size", "text"), [(100, "100 bytes"), (2**10, "1.0 KiB"), (512 * 2**20, "512.0 MiB"), (10 * GIB + 1, "10.0 GiB")]
)
def test_a_limit_is_shown_in_binary_units(size: int, text: str) -> None:
    assert format_binary_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("0", 0), ("1.5 GB", 1_500_000_000), ("20GiB", 20 * GIB), ("500m", 500_000_000), ("7B", 7)],
)
def test_a_size_is_parsed_with_decimal_and_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 apples", "5PB", "1e9"])
def test_the_error_for_a_text_that_is_not_a_size_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is not a size; write it as 5GB, 500MB or 20GiB$"):
        parse_size(text)


def test_a_formatted_size_can_be_parsed_again() -> None:
    assert parse_size(format_size(5 * 10**9)) == 5 * 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (41.3, "41 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")],
)
def test_a_duration_is_shown_in_one_or_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_duration_is_parsed_in_hours_days_or_weeks() -> None:
    assert [parse_duration(text) for text in ("36h", "30d", "8w")] == [
        timedelta(hours=36), timedelta(days=30), timedelta(weeks=8),
    ]  # fmt: skip


def test_the_error_for_a_text_that_is_not_a_duration_shows_the_form() -> None:
    with pytest.raises(UsageError, match=r"^'30' is not a duration; write it as 36h, 30d or 8w$"):
        parse_duration("30")
