"""Progress events of a run, and the reporter that sends them to one callback."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from rlimages.plan.results import Outcome
from rlimages.plan.step import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One moment of a stage: its start, its progress or its end."""

    cell: str
    """Id of the cell; while images are published, name of the registry."""
    stage: Stage
    outcome: Outcome | None
    """None until the stage has ended."""
    detail: str
    """The current action; at the end, the reason for the outcome if there is one."""
    seconds: float
    """Time since the stage started."""
    done: int
    """Number of finished cells (registries), of `total`."""
    total: int


class EventReporter:
    """Sends the events of all cells to one callback, one at a time, with the number of finished cells.

    Any thread may call it; the callback is never called by two threads at once.
    """

    def __init__(self, on_event: Callable[[Event], None], total: int) -> None:
        """Report to `on_event` about `total` cells (registries)."""
        self._on_event = on_event
        self._total = total
        self._done = 0
        self._lock = Lock()

    def count_finished(self) -> None:
        """Add one to the number of finished cells that later events show."""
        with self._lock:
            self._done += 1

    def start_stage(self, cell: str, stage: Stage) -> "StageReporter":
        """Report that a stage of a cell starts. Return what reports its progress and its end."""
        return StageReporter(self, cell, stage)

    def report(self, cell: str, stage: Stage, outcome: Outcome | None, detail: str, seconds: float) -> None:
        """Send one event."""
        with self._lock:
            self._on_event(
                Event(
                    cell=cell,
                    stage=stage,
                    outcome=outcome,
                    detail=detail,
                    seconds=seconds,
                    done=self._done,
                    total=self._total,
                )
            )


class StageReporter:
    """Reports the progress and the end of one stage of one cell, with the time since it started."""

    def __init__(self, reporter: EventReporter, cell: str, stage: Stage) -> None:
        """Report the start."""
        self._reporter = reporter
        self._cell = cell
        self._stage = stage
        self._started = monotonic()
        self.report_progress("")

    def report_progress(self, detail: str) -> None:
        """Report the current action."""
        self._report(None, detail)

    def report_end(self, outcome: Outcome, reason: str) -> None:
        """Report the outcome of the stage, and the reason for it."""
        self._report(outcome, reason)

    def _report(self, outcome: Outcome | None, detail: str) -> None:
        self._reporter.report(self._cell, self._stage, outcome, detail, monotonic() - self._started)
