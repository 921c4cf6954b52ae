"""Measurements as values, the file that stores them, and their medians."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """The duration of one attempt and other numbers."""

    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)
    """`memory` (peak, bytes), `built` (images), `sent` (bytes), `requests`, `size` (bytes), `cores` (average number
    of busy ones, of the whole machine)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt of one contender, as it is stored. The names of the fields are the keys of the file."""

    scenario: str
    who: str
    """The contender; in scenarios about growth, the number of cells."""
    round: int
    """From 0."""
    seconds: float | None
    """None if the attempt failed."""
    facts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All rounds of one contender in one scenario."""

    seconds: tuple[float, ...]
    """Durations of the successful rounds."""
    facts: Mapping[str, float]
    """Median of each other number."""
    broke: int = 0
    """Number of failed rounds."""

    @property
    def median(self) -> float | None:
        """The median duration; None if no round was successful."""
        return statistics.median(self.seconds) if self.seconds else None


Summaries = Mapping[str, Mapping[str, Summary]]
"""Scenario -> contender -> summary."""


class AttemptFile:
    """A file with one line of JSON for each attempt. A benchmark that is interrupted can be continued from it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, machine: Mapping[str, Any]) -> None:
        """Replace the file by one that has only the description of the machine."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(machine) + "\n", encoding="utf-8")

    def add(self, attempt: Attempt) -> None:
        """Append one attempt."""
        # An interruption may have cut off the last line.
        cut = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * cut + json.dumps(asdict(attempt)) + "\n")

    @property
    def machine(self) -> dict[str, Any]:
        """The description of the machine; empty if there is no file."""
        return next(self._lines(), {})

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts, in the order of time."""
        return tuple(Attempt(**line) for line in self._lines() if "scenario" in line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the file, without those that were cut off."""
        text = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def summaries(attempts: Iterable[Attempt]) -> Summaries:
    """Summarize the rounds of each contender, in the order in which they were first measured."""
    grouped: dict[str, dict[str, list[Attempt]]] = {}
    for attempt in attempts:
        grouped.setdefault(attempt.scenario, {}).setdefault(attempt.who, []).append(attempt)
    return {
        scenario: {who: _summary(rounds) for who, rounds in contenders.items()}
        for scenario, contenders in grouped.items()
    }


def _summary(rounds: list[Attempt]) -> Summary:
    names = dict.fromkeys(name for attempt in rounds for name in attempt.facts)
    return Summary(
        seconds=tuple(attempt.seconds for attempt in rounds if attempt.seconds is not None),
        broke=sum(attempt.seconds is None for attempt in rounds),
        facts={name: statistics.median(f.facts[name] for f in rounds if name in f.facts) for name in names},
    )


def rotate(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return the order of one round. Another contender starts each round, so that the order favours none."""
    at = number % len(names)
    return names[at:] + names[:at]
