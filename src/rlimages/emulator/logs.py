"""Follow the logs of several containers at once, and extract metrics from them."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty, Queue
from threading import Thread
from typing import Protocol

from rlimages.errors import JobError

OnLine = Callable[[str, str], None]
"""Hears the host and the line that it printed, one at a time."""
_POLL_SECONDS = 0.1
_HANDFUL = 1000
"""Lines between two looks at the clock, however much a program prints."""


class LogSource(Protocol):
    """What is asked of one that runs."""

    name: str

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Hand on each line that it prints, until it ends; its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """How one ended, or what kept us from knowing."""

    name: str
    code: int = 0
    error: Exception | None = None


class LogFollower:
    """Several that run, from their start to their end."""

    def __init__(self, on_line: OnLine) -> None:
        self.codes: dict[str, int] = {}
        """Name -> exit code, of those that have ended."""
        self._on_line = on_line
        self._happened: Queue[_Ended | tuple[str, str]] = Queue(maxsize=_HANDFUL)

    def begin(self, hosts: Sequence[LogSource]) -> None:
        """Follow them all; each is heard in `take`."""
        for host in hosts:
            Thread(target=self._follow, args=(host,), daemon=True).start()

    def take(self) -> None:
        """Take what has happened within a moment: lines are handed on, an end is written down."""
        with suppress(Empty):
            for number in range(_HANDFUL):
                event = self._happened.get(timeout=0 if number else _POLL_SECONDS)
                if isinstance(event, tuple):
                    self._on_line(*event)
                elif event.error is not None:
                    raise event.error
                else:
                    self.codes[event.name] = event.code
                    return

    def _follow(self, host: LogSource) -> None:
        try:
            code = host.follow(lambda line: self._happened.put((host.name, line)))
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._happened.put(_Ended(name=host.name, error=error))
        else:
            self._happened.put(_Ended(name=host.name, code=code))


_BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
"""Characters of a line at most; longer series are drawn as the means of equal parts."""


class Metrics:
    """What each metric has been so far."""

    def __init__(self, definitions: Iterable[tuple[str, str]]) -> None:
        """Of names and regular expressions, whose first group is the value. Raises `JobError`."""
        self._patterns = tuple((name, _compiled(name, regex)) for name, regex in definitions)
        self.values: dict[str, list[float]] = {name: [] for name, _ in self._patterns}

    def hear(self, line: str) -> None:
        """Take the values out of one line of the log; a match that is not a number is none, as in CloudWatch."""
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                with suppress(ValueError, TypeError):
                    self.values[name].append(float(match[1]))

    def lines(self) -> Iterator[str]:
        """One line a metric: `reward ▁▃▆█ 120 values, first 9.5, last 181, lowest 9.5, highest 195`."""
        room = max(map(len, self.values), default=0)
        for name, values in self.values.items():
            if values:
                facts = f"first {values[0]:g}, last {values[-1]:g}, lowest {min(values):g}, highest {max(values):g}"
                count = f"{len(values)} value{'s' if len(values) > 1 else ''}"
                yield f"{name:{room}}  {sparkline(values)}  {count}, {facts}"
            else:
                yield f"{name:{room}}  no line of the log matched"


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """A series as bars from its lowest value to its highest, in at most `width` characters."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    parts = min(len(finite), width)
    cuts = [round(part * len(finite) / parts) for part in range(parts + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _compiled(name: str, regex: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise JobError(f"--metric {name}: {regex!r} is no regular expression: {error}") from error
    if not pattern.groups:
        raise JobError(f"--metric {name}: {regex!r} has no group (…) for the value")
    return pattern
