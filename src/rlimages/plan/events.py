"""Progress events of a run, and the reporters that pass them to one callback."""

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
    """Id of the cell; in the stage PUBLISH, name of the registry to which images are pushed."""
    stage: Stage
    outcome: Outcome | None
    """Outcome of the stage; None until it has ended."""
    detail: str
    """The current action; once the stage has ended, the reason for its outcome. Empty if there is none."""
    seconds: float
    """Seconds since the stage started."""
    done: int
    """Number of cells (in the stage PUBLISH: registries) that have finished all their stages, of `total`."""
    total: int
    """Number of cells of the run (in the stage PUBLISH: registries of the target)."""


class EventReporter:
    """Passes the events of all cells to one callback, with the number of finished cells.

    Its methods may be called in any thread. The callback is never called in two threads at once.
    """

    def __init__(self, on_event: Callable[[Event], None], total: int) -> None:
        """Create a reporter that calls `on_event` for each event. `total` is the number of cells (or registries)."""
        self._on_event = on_event
        self._total = total
        self._done = 0
        self._lock = Lock()

    def count_finished(self) -> None:
        """Add one to the number of finished cells, which all later events show as `done`. No event is sent."""
        with self._lock:
            self._done += 1

    def start_stage(self, cell: str, stage: Stage) -> "StageReporter":
        """Report that `stage` of the cell with the id `cell` starts.

        Return the `StageReporter` with which the caller reports the progress and the end of the stage.
        """
        return StageReporter(self, cell, stage)

    def report(self, cell: str, stage: Stage, outcome: Outcome | None, detail: str, seconds: float) -> None:
        """Call the callback with one event, which has the arguments as its fields.

        `cell` is the id of a cell or the name of a registry. `outcome` is None while the stage runs. `detail` is the
        current action or the reason for the outcome. `seconds` is the time since the stage started.
        """
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
    """Reports the start, the progress and the end of one stage of one cell, with the time since the stage started."""

    def __init__(self, reporter: EventReporter, cell: str, stage: Stage) -> None:
        """Report to `reporter` that `stage` of the cell with the id `cell` starts now."""
        self._reporter = reporter
        self._cell = cell
        self._stage = stage
        self._started = monotonic()
        self.report_progress("")

    def report_progress(self, detail: str) -> None:
        """Report `detail`, which names the current action of the stage."""
        self._report(None, detail)

    def report_end(self, outcome: Outcome, reason: str) -> None:
        """Report that the stage ended with `outcome`. `reason` explains the outcome; it may be empty."""
        self._report(outcome, reason)

    def _report(self, outcome: Outcome | None, detail: str) -> None:
        self._reporter.report(self._cell, self._stage, outcome, detail, monotonic() - self._started)
