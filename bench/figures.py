"""Measurements as values, the file that keeps them, and what is made of them: medians and ratios."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What one attempt took."""

    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)
    """What else was counted: `memory` (bytes), `built` (images), `sent` (bytes), `requests`, `size` (bytes), `cores`
    (how many were busy, of the whole machine)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measurement."""

    scenario: str
    who: str
    """The contender, or the size of what was measured."""
    round: int
    """From 0."""
    seconds: float | None
    """None where it broke."""
    facts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All rounds of one contender, in one scenario."""

    seconds: tuple[float, ...]
    """Of the rounds that passed."""
    facts: Mapping[str, float]
    """The median of each."""
    broke: int = 0
    """Rounds that did not pass."""

    @property
    def median(self) -> float | None:
        """Of the seconds; None where no round passed."""
        return statistics.median(self.seconds) if self.seconds else None


Summaries = Mapping[str, Mapping[str, Summary]]
"""Scenario -> contender -> what it took."""


class Ledger:
    """The measurements of one benchmark, a line of JSON each: an interrupted one keeps what it has."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, machine: Mapping[str, Any]) -> None:
        """Forget what was there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(machine) + "\n", encoding="utf-8")

    def add(self, figure: Figure) -> None:
        """Keep one more."""
        cut = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * cut + json.dumps(asdict(figure)) + "\n")

    @property
    def machine(self) -> dict[str, Any]:
        """What was measured and where; empty where nothing was."""
        return next(self._lines(), {})

    @property
    def figures(self) -> tuple[Figure, ...]:
        """In the order of time."""
        return tuple(Figure(**line) for line in self._lines() if "scenario" in line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        """A line that was cut off counts as not measured."""
        text = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def summaries(figures: Iterable[Figure]) -> Summaries:
    """The rounds of each contender together, in the order in which they were first seen."""
    grouped: dict[str, dict[str, list[Figure]]] = {}
    for figure in figures:
        grouped.setdefault(figure.scenario, {}).setdefault(figure.who, []).append(figure)
    return {
        scenario: {who: _summary(rounds) for who, rounds in contenders.items()}
        for scenario, contenders in grouped.items()
    }


def _summary(rounds: list[Figure]) -> Summary:
    names = dict.fromkeys(name for figure in rounds for name in figure.facts)
    return Summary(
        seconds=tuple(figure.seconds for figure in rounds if figure.seconds is not None),
        broke=sum(figure.seconds is None for figure in rounds),
        facts={name: statistics.median(f.facts[name] for f in rounds if name in f.facts) for name in names},
    )


def rotated(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """The order of one round: another one begins each time, so that no place in the order favours anybody."""
    at = number % len(names)
    return names[at:] + names[:at]
