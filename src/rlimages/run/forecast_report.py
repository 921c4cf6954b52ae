"""The forecast of a run as text for people and as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlimages.plan.step import Action
from rlimages.run.forecast import CellForecast, Forecast
from rlimages.system.units import format_duration, format_size

_ACTIONS = {
    Action.BUILD: "to build",
    Action.RETAG: "to retag",
    Action.REUSE: "up to date",
    Action.SKIP: "left out",
}


def forecast_text(forecast: Forecast) -> str:
    """Return `forecast` as text: a table with action and reason of each cell, the sums of all cells, and the notes."""
    width = max((len(cell.step.cell.id) for cell in forecast.cells), default=4)
    lines = [f"{'ACTION':<6}  {'CELL':<{width}}  WHY"]
    for cell in forecast.cells:
        step = cell.step
        lines.append(f"{step.action:<6}  {step.cell.id:<{width}}  {step.reason}")
        # The reason of a build is often its first change.
        more = step.changes[1:] if step.changes and step.reason.startswith(step.changes[0]) else step.changes
        lines += [f"{'':<6}  {'':<{width}}    {change}" for change in more]
    return "\n".join([*lines, "", *_sums(forecast), *(f"note: {note}" for note in forecast.notes)]) + "\n"


def forecast_facts(forecast: Forecast, commands: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return `forecast` as a dictionary that can be written as JSON.

    `commands` maps cell ids to the command (program and arguments) of the cell's build; a cell without command gets
    null.
    """
    return {
        "changes": forecast.changes,
        "jobs": forecast.jobs,
        "disk": {"needed": forecast.needed_disk, "free": forecast.free_disk},
        "send": forecast.upload,
        "notes": list(forecast.notes),
        "cells": [
            {
                "id": cell.step.cell.id,
                "action": cell.step.action,
                "reason": cell.step.reason,
                "changes": list(cell.step.changes),
                "where": cell.step.cell.where,
                "image": cell.step.request.tag,
                "digests": {"source": cell.step.source, "build": cell.step.digest},
                "seconds": cell.seconds,
                "space": cell.disk,
                "checks": list(cell.checks),
                "proven": cell.passed_checks,
                "publishes": list(cell.published_names),
                "command": commands.get(cell.step.cell.id),
            }
            for cell in forecast.cells
        ],
    }


def _sums(forecast: Forecast) -> Iterator[str]:
    """Yield lines with the sums of all cells.

    The first has the number of cells for each action. Lines about time and disk of builds, about checks and about
    published names follow if there are any.
    """
    counts = Counter(cell.step.action for cell in forecast.cells)
    yield ", ".join(f"{counts[action]} {words}" for action, words in _ACTIONS.items() if counts[action])
    builds = [cell for cell in forecast.cells if cell.step.action is Action.BUILD]
    if builds:
        yield f"time: {_time(builds, forecast.jobs)}"
        free = f"{format_size(forecast.free_disk)} free" if forecast.free_disk is not None else "free space unknown"
        yield f"disk: {_disk(builds, forecast.needed_disk)}; {free}"
    checks = sum(len(cell.checks) for cell in forecast.cells)
    passed = sum(cell.passed_checks for cell in forecast.cells)
    if checks or passed:
        yield f"checks: {checks} to run" + (f", {passed} passed before for the same images" if passed else "")
    names = sum(len(cell.published_names) for cell in forecast.cells)
    if names:
        upload = ""
        if forecast.upload is not None:
            size = f"at most {format_size(forecast.upload)} of" if forecast.upload else "no"
            upload = f"; {size} layers to upload"
        unknown = len(forecast.unknown_uploads)
        not_counted = f", not counting {_count(unknown)} to build" if unknown else ""
        yield f"publish: {names} name{'s' if names > 1 else ''}{upload}{not_counted}"


def _time(builds: Sequence[CellForecast], jobs: int) -> str:
    """Return the estimated time of `builds`, of which `jobs` run at the same time, as text for people."""
    known = [cell.seconds for cell in builds if cell.seconds is not None]
    if not known:
        return "unknown, never built here"
    # Parallel work takes its share for each job, and never less than its longest part.
    seconds = max(sum(known) / jobs, *known)
    return f"about {format_duration(seconds)}{_not_counted(len(builds) - len(known))}"


def _disk(builds: Sequence[CellForecast], needed: int) -> str:
    """Return the disk that `builds` need as text for people. `needed` is the sum in bytes of those that are known."""
    unknown = sum(cell.disk is None for cell in builds)
    if unknown == len(builds):
        return "need unknown, never built here"
    return f"about {format_size(needed)} needed{_not_counted(unknown)}"


def _not_counted(unknown: int) -> str:
    """Return a clause about the number of cells, `unknown`, that an estimate leaves out; empty if it is 0."""
    return f", not counting {_count(unknown)} never built here" if unknown else ""


def _count(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
