import time
from collections.abc import Callable

import pytest

from rlimages.emulator.logs import LogFollower
from rlimages.errors import ToolError


class FakeSource:
    """A container that prints its lines, and ends with an exit code or an error."""

    def __init__(self, name: str, *lines: str, code: int = 0, error: Exception | None = None) -> None:
        self.name = name
        self.lines = lines
        self.code = code
        self.error = error

    def follow(self, on_line: Callable[[str], None]) -> int:
        for line in self.lines:
            on_line(line)
        if self.error is not None:
            raise self.error
        return self.code


def follow(*sources: FakeSource) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Follow the logs of all sources to their end. Returns the exit codes, and the lines with their sources."""
    lines: list[tuple[str, str]] = []
    logs = LogFollower(lambda name, line: lines.append((name, line)))
    logs.start(sources)
    deadline = time.monotonic() + 5
    while len(logs.codes) < len(sources) and time.monotonic() < deadline:
        logs.process_events()
    return logs.codes, lines


def test_each_log_is_followed_to_its_end_and_keeps_its_order() -> None:
    codes, lines = follow(FakeSource("a", "1", "2", code=3), FakeSource("b", "x"))
    assert codes == {"a": 3, "b": 0}
    assert [line for name, line in lines if name == "a"] == ["1", "2"]
    assert ("b", "x") in lines


def test_a_log_may_have_more_lines_than_the_queue() -> None:
    _, lines = follow(FakeSource("a", *map(str, range(2500))))
    assert [line for _, line in lines] == [str(number) for number in range(2500)]


def test_the_error_of_a_log_is_raised_to_the_caller() -> None:
    with pytest.raises(ToolError, match="the engine went away"):
        follow(FakeSource("a", error=ToolError("the engine went away")))
