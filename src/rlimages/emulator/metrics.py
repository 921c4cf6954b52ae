"""Extract the values of metrics from log lines with regular expressions, and draw them as bars."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from rlimages.errors import JobError

WIDTH = 40
"""Largest number of characters of a drawn series of values."""
_BARS = "▁▂▃▄▅▆▇█"


class Metrics:
    """The values of each metric in the log lines that were read so far, in the order of the lines."""

    def __init__(self, definitions: Iterable[tuple[str, str]]) -> None:
        """Compile `definitions`: pairs of a metric's name and a regular expression, whose first group is the value.

        Raises `JobError` if an expression is invalid or has no group.
        """
        self._patterns = tuple((name, _compile_pattern(name, regex)) for name, regex in definitions)
        self.values: dict[str, list[float]] = {name: [] for name, _ in self._patterns}

    def read_line(self, line: str) -> None:
        """Append the values that the expressions find in `line`, a line of the log.

        A match that is not a number is ignored, as CloudWatch does.
        """
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                with suppress(ValueError, TypeError):  # TypeError: the group did not take part in the match
                    self.values[name].append(float(match[1]))

    def lines(self) -> Iterator[str]:
        """Yield one line for each metric: `reward ▁▃▆█ 120 values, first 9.5, last 181, lowest 9.5, highest 195`.

        The line of a metric without values says that no line of the log matched.
        """
        width = max(map(len, self.values), default=0)
        for name, values in self.values.items():
            if values:
                summary = f"first {values[0]:g}, last {values[-1]:g}, lowest {min(values):g}, highest {max(values):g}"
                count = f"{len(values)} value{'s' if len(values) > 1 else ''}"
                yield f"{name:{width}}  {sparkline(values)}  {count}, {summary}"
            else:
                yield f"{name:{width}}  no line of the log matched"


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return `values` drawn as bars from the lowest to the highest value, in at most `width` characters.

    A longer series is cut into `width` equal parts, and each bar is the mean of one part. NaN and infinite values are
    left out. The result is an empty string if no value is left.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    parts = min(len(finite), width)
    cuts = [round(part * len(finite) / parts) for part in range(parts + 1)]
    means = [sum(finite[start:end]) / (end - start) for start, end in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _compile_pattern(name: str, regex: str) -> re.Pattern[str]:
    """Compile the regular expression of the metric `name`. Raises `JobError` if it is invalid or has no group."""
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise JobError(f"--metric {name}: {regex!r} is not a valid regular expression: {error}") from error
    if not pattern.groups:
        raise JobError(f"--metric {name}: {regex!r} has no group (…) for the value")
    return pattern
