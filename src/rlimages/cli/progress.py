"""Show the progress of a run: in a table that is updated on a terminal, and in plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from rlimages.plan.events import Event
from rlimages.plan.results import Outcome
from rlimages.plan.step import Stage
from rlimages.system.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


_DONE = {Stage.BUILD: "built", Stage.SMOKE: "checked", Stage.PUBLISH: "published"}
_RUNNING = {Stage.BUILD: "builds", Stage.SMOKE: "checks", Stage.PUBLISH: "publishes"}
_STYLE = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}


@contextmanager
def progress_reporter(stream: TextIO, *, live: bool) -> Iterator[Callable[[Event], None]]:
    """Yield a function that shows an event of a run on `stream`.

    If `live`, events update a table on the terminal, which is removed at the end of the block; else each start and end
    of a stage is a plain line.
    """
    if not live:
        yield lambda event: _print(stream, event)
        return
    with ExitStack() as stack:
        views: list[_View] = []

        def show(event: Event) -> None:
            if not views:  # rich is slow to import: a run without any event does not need it
                views.append(stack.enter_context(_live_reporter(stream)))
            views[0].show(event)

        yield show


@contextmanager
def _live_reporter(stream: TextIO) -> Iterator["_View"]:
    from rich.console import Console
    from rich.live import Live

    view = _View(Console(file=stream))
    with Live(get_renderable=view.table, console=view.console, refresh_per_second=4, transient=True):
        yield view


def event_line(event: Event) -> str:
    """Return the line that shows `event`, the start or the end of a stage: `[ 3/12] ray-… built in 41 s`.

    Return an empty text for an event between the start and the end of a stage.
    """
    count = f"[{event.done:{len(str(event.total))}}/{event.total}]"
    detail = f": {event.detail}" if event.detail else ""
    if event.outcome is None:
        return "" if event.detail else f"{count} {event.cell} {_RUNNING[event.stage]}"
    if event.outcome is Outcome.PASSED:
        return f"{count} {event.cell} {_DONE[event.stage]} in {format_duration(event.seconds)}{detail}"
    return f"{count} {event.cell} {event.stage} {event.outcome} after {format_duration(event.seconds)}{detail}"


def _print(stream: TextIO, event: Event) -> None:
    text = event_line(event)
    if text:
        print(text, file=stream, flush=True)


@dataclass
class _Row:
    stage: Stage
    started: float
    """Time at which the stage started, in seconds of `time.monotonic`."""
    detail: str
    """The current action of the stage; empty at its start."""


class _View:
    """A table on a terminal with the stages that run now; stages that have ended are plain lines above the table."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self._rows: dict[str, _Row] = {}

    def show(self, event: Event) -> None:
        """Update the row of the cell of `event`; if its stage has ended, replace the row by a plain line."""
        if event.outcome is None:
            started = time.monotonic() - event.seconds
            self._rows[event.cell] = _Row(stage=event.stage, started=started, detail=event.detail)
        else:
            self._rows.pop(event.cell, None)
            self.console.print(event_line(event), style=_STYLE[event.outcome], markup=False, highlight=False)

    def table(self) -> "Table":
        """Return the current table, with one row for each running stage: cell, stage, elapsed time and action."""
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for cell, row in list(self._rows.items()):  # a copy: another thread changes the rows meanwhile
            seconds = format_duration(time.monotonic() - row.started)
            spinner = Spinner("dots", style="cyan")
            table.add_row(spinner, Text(cell), Text(_RUNNING[row.stage]), Text(seconds), Text(row.detail, style="dim"))
        return table
