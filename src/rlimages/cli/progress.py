"""Show the progress of a run: a live view on a terminal, plain lines elsewhere."""

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
_DOING = {Stage.BUILD: "builds", Stage.SMOKE: "checks", Stage.PUBLISH: "publishes"}
_STYLE = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}


@contextmanager
def progress_reporter(stream: TextIO, *, live: bool) -> Iterator[Callable[[Event], None]]:
    """Give the callback for `pipeline.run`; `live` when `stream` is a terminal and no CI is about."""
    if not live:
        yield lambda event: _print(stream, event)
        return
    with ExitStack() as open_view:
        views: list[_View] = []

        def take(event: Event) -> None:
            if not views:  # what draws is loaded for those who have something to see
                views.append(open_view.enter_context(_live_reporter(stream)))
            views[0].take(event)

        yield take


@contextmanager
def _live_reporter(stream: TextIO) -> Iterator["_View"]:
    from rich.console import Console
    from rich.live import Live

    view = _View(Console(file=stream))
    with Live(get_renderable=view.table, console=view.console, refresh_per_second=4, transient=True):
        yield view


def event_line(event: Event) -> str:
    """`[ 3/12] ray-… built in 41 s`: for the beginning and the end of a stage; empty for what is between."""
    count = f"[{event.done:{len(str(event.total))}}/{event.total}]"
    detail = f": {event.detail}" if event.detail else ""
    if event.outcome is None:
        return "" if event.detail else f"{count} {event.cell} {_DOING[event.stage]}"
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
    began: float
    detail: str


class _View:
    """What goes on now, below the lines of what has ended."""

    def __init__(self, console: "Console") -> None:
        self.console = console
        self._rows: dict[str, _Row] = {}

    def take(self, event: Event) -> None:
        if event.outcome is None:
            began = time.monotonic() - event.seconds
            self._rows[event.cell] = _Row(stage=event.stage, began=began, detail=event.detail)
        else:
            self._rows.pop(event.cell, None)
            self.console.print(event_line(event), style=_STYLE[event.outcome], markup=False, highlight=False)

    def table(self) -> "Table":
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for cell, row in list(self._rows.items()):
            seconds = format_duration(time.monotonic() - row.began)
            spinner = Spinner("dots", style="cyan")
            table.add_row(spinner, Text(cell), Text(_DOING[row.stage]), Text(seconds), Text(row.detail, style="dim"))
        return table
