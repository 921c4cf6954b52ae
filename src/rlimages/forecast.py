"""What a plan comes to: what is done to each cell and why, its cost, what is checked and published. Values."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.report import duration, size


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """One cell of a forecast."""

    step: BuildStep
    seconds: float | None
    """What its build took before; None for what is not built, or was never built here."""
    space: int | None
    """Bytes that its build needs on disk; None where nobody knows."""
    checks: tuple[str, ...]
    """The checks that have to run."""
    proven: int
    """The checks that passed before for this very image."""
    publishes: tuple[str, ...]
    """The names that it gets in the registry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Every cell of the matrix, in its order, and what all of it needs."""

    cells: tuple[Outlook, ...]
    jobs: int
    free: int | None
    """Bytes free where the engine keeps its images; None where that is not on this machine."""
    send: int | None
    """Bytes of layers that the places lack of the images that are here (`freight`); None without a place."""
    unknown: tuple[str, ...] = ()
    """Cells whose layers are not known before they are built."""
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> BuildPlan:
        """The steps alone."""
        return BuildPlan(steps=tuple(cell.step for cell in self.cells), jobs=self.jobs)

    @property
    def changes(self) -> bool:
        """Whether a run of this would do anything."""
        return any(cell.step.action in (Action.BUILD, Action.RETAG) for cell in self.cells)


def text(told: Forecast) -> str:
    """For people: a line for each cell with what is done and why, then what all of it comes to."""
    wide = max((len(cell.step.cell.id) for cell in told.cells), default=4)
    lines = [f"{'ACTION':<6}  {'CELL':<{wide}}  WHY"]
    for cell in told.cells:
        step = cell.step
        lines.append(f"{step.action:<6}  {step.cell.id:<{wide}}  {step.reason}")
        more = step.changes[1:] if step.changes and step.reason.startswith(step.changes[0]) else step.changes
        lines += [f"{'':<6}  {'':<{wide}}    {change}" for change in more]
    return "\n".join([*lines, "", *_sums(told), *(f"note: {note}" for note in told.notes)]) + "\n"


def facts(told: Forecast, commands: dict[str, list[str]]) -> dict[str, Any]:
    """For programs; `commands` has the exact command of each build."""
    return {
        "changes": told.changes,
        "jobs": told.jobs,
        "disk": {"needed": _needed(told), "free": told.free},
        "send": told.send,
        "notes": list(told.notes),
        "cells": [
            {
                "id": cell.step.cell.id,
                "action": cell.step.action,
                "reason": cell.step.reason,
                "changes": list(cell.step.changes),
                "where": cell.step.cell.where,
                "image": cell.step.image,
                "digests": {"source": cell.step.source, "build": cell.step.digest},
                "seconds": cell.seconds,
                "space": cell.space,
                "checks": list(cell.checks),
                "proven": cell.proven,
                "publishes": list(cell.publishes),
                "command": commands.get(cell.step.cell.id),
            }
            for cell in told.cells
        ],
    }


def _sums(told: Forecast) -> Iterator[str]:
    counts = Counter(cell.step.action for cell in told.cells)
    words = {
        Action.BUILD: "to build",
        Action.RETAG: "to retag",
        Action.REUSE: "up to date",
        Action.SKIP: "left out",
    }
    yield ", ".join(f"{counts[action]} {word}" for action, word in words.items() if counts[action])
    builds = [cell for cell in told.cells if cell.step.action is Action.BUILD]
    if builds:
        yield f"time: {_time(builds, told.jobs)}"
        free = f"{size(told.free)} free" if told.free is not None else "free space unknown"
        yield f"disk: {_space(builds, _needed(told))}, {free}"
    run, proven = sum(len(cell.checks) for cell in told.cells), sum(cell.proven for cell in told.cells)
    if run or proven:
        yield f"checks: {run} to run" + (f", {proven} passed before for the very same images" if proven else "")
    names = [name for cell in told.cells for name in cell.publishes]
    if names:
        sent = ""
        if told.send is not None:
            sent = f"; at most {size(told.send)} of layers to send" if told.send else "; no layer to send"
        after = f", and what {_count(len(told.unknown))} will have" if told.unknown else ""
        yield f"publish: {len(names)} name{'s' if len(names) > 1 else ''}{sent}{after}"


def _time(builds: Sequence[Outlook], jobs: int) -> str:
    """Work that several share ends no sooner than its longest part."""
    known = [cell.seconds for cell in builds if cell.seconds is not None]
    unknown = len(builds) - len(known)
    if not known:
        return "unknown, never built here"
    about = max(sum(known) / jobs, *known)
    return f"about {duration(about)}" + (f" beside {_count(unknown)} never built here" if unknown else "")


def _space(builds: Sequence[Outlook], needed: int) -> str:
    unknown = sum(cell.space is None for cell in builds)
    if unknown == len(builds):
        return "need unknown, never built here"
    return f"about {size(needed)} needed" + (f" beside {_count(unknown)} never built here" if unknown else "")


def _needed(told: Forecast) -> int:
    return sum(cell.space or 0 for cell in told.cells if cell.step.action is Action.BUILD)


def _count(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
