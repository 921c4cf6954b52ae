"""Forecast a run for `rlimages plan`: what it would do, why, and how long it would take."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlimages.build.resources import expected_disk
from rlimages.checks.smoke import cached_result
from rlimages.checks.suite import SmokeCheck, find_checks
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import LocalImages
from rlimages.errors import ToolError
from rlimages.matrix.cell import Cell
from rlimages.plan.history import History, read_history
from rlimages.plan.planner import make_plan
from rlimages.plan.step import Action, BuildPlan, BuildStep, RunOptions
from rlimages.project.project import Project
from rlimages.run.prepare import decide_plan, outline_plan, without_orphans
from rlimages.system.machine import free_disk
from rlimages.system.process import Stop
from rlimages.system.units import format_duration, format_size

if TYPE_CHECKING:
    from rlimages.release.reuse import ReusedImage
    from rlimages.release.target import ReleaseTarget


@dataclass(frozen=True, kw_only=True, slots=True)
class CellForecast:
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

    cells: tuple[CellForecast, ...]
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


def forecast_text(told: Forecast) -> str:
    """For people: a line for each cell with what is done and why, then what all of it comes to."""
    wide = max((len(cell.step.cell.id) for cell in told.cells), default=4)
    lines = [f"{'ACTION':<6}  {'CELL':<{wide}}  WHY"]
    for cell in told.cells:
        step = cell.step
        lines.append(f"{step.action:<6}  {step.cell.id:<{wide}}  {step.reason}")
        more = step.changes[1:] if step.changes and step.reason.startswith(step.changes[0]) else step.changes
        lines += [f"{'':<6}  {'':<{wide}}    {change}" for change in more]
    return "\n".join([*lines, "", *_sums(told), *(f"note: {note}" for note in told.notes)]) + "\n"


def forecast_facts(told: Forecast, commands: dict[str, list[str]]) -> dict[str, Any]:
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
                "image": cell.step.request.tag,
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
        free = f"{format_size(told.free)} free" if told.free is not None else "free space unknown"
        yield f"disk: {_space(builds, _needed(told))}, {free}"
    run, proven = sum(len(cell.checks) for cell in told.cells), sum(cell.proven for cell in told.cells)
    if run or proven:
        yield f"checks: {run} to run" + (f", {proven} passed before for the very same images" if proven else "")
    names = [name for cell in told.cells for name in cell.publishes]
    if names:
        sent = ""
        if told.send is not None:
            sent = f"; at most {format_size(told.send)} of layers to send" if told.send else "; no layer to send"
        after = f", and what {_count(len(told.unknown))} will have" if told.unknown else ""
        yield f"publish: {len(names)} name{'s' if len(names) > 1 else ''}{sent}{after}"


def _time(builds: Sequence[CellForecast], jobs: int) -> str:
    """Work that several share ends no sooner than its longest part."""
    known = [cell.seconds for cell in builds if cell.seconds is not None]
    unknown = len(builds) - len(known)
    if not known:
        return "unknown, never built here"
    about = max(sum(known) / jobs, *known)
    return f"about {format_duration(about)}" + (f" beside {_count(unknown)} never built here" if unknown else "")


def _space(builds: Sequence[CellForecast], needed: int) -> str:
    unknown = sum(cell.space is None for cell in builds)
    if unknown == len(builds):
        return "need unknown, never built here"
    return f"about {format_size(needed)} needed" + (f" beside {_count(unknown)} never built here" if unknown else "")


def _needed(told: Forecast) -> int:
    return sum(cell.space or 0 for cell in told.cells if cell.step.action is Action.BUILD)


def _count(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def make_forecast(
    project: Project,
    cells: Sequence[Cell],
    wishes: RunOptions,
    *,
    patterns: Sequence[str],
    since: str,
    environ: Mapping[str, str],
) -> Forecast:
    """What a run with these wishes would do. `since` compares with a commit, and asks no engine.

    Raises what a run would raise before its first build, but for an engine that does not answer: then nothing is known
    to be there, and a note says so.
    """
    todo = outline_plan(project, cells, wishes)
    engine = DockerEngine(run="plan", stop=Stop())
    notes: list[str] = []
    try:
        holdings = LocalImages() if since else engine.local_images()
    except ToolError as error:
        holdings = LocalImages()
        notes.append(f"what is here is not known: {error}")
    if not since:
        todo = without_orphans(todo, holdings, project)
    decided = decide_plan(project, todo, holdings, wishes)
    if since:
        from rlimages.run.affected import affected_cells

        decided = _since(decided, affected_cells(project, since), since)
    names: dict[str, tuple[str, ...]] = {}
    recalled: Mapping[str, ReusedImage] = {}
    send: int | None = None
    if wishes.to or wishes.target:
        from rlimages.release.reuse import find_reusable  # imported here: it would double the start-up time
        from rlimages.release.target import open_target

        with open_target(project, cells, to=wishes.to, target=wishes.target, environ=environ) as target:
            if not wishes.fresh:
                decided, recalled = find_reusable(decided, target.connections[0], project)
            names = {cell.id: tuple(_published_names(cell, target)) for cell in cells}
            send = None if since else _bytes_to_upload(decided, recalled, engine, target, project)
    plan = _with_unselected(decided, project, patterns)
    if any(step.action is not Action.SKIP for step in decided.steps):
        notes += _unlocked(project, decided)
    proven = {} if since else dict(_cached_checks(decided, engine, project))
    proven.update((name, frozenset(image.pass_record.checks)) for name, image in recalled.items())
    suites, past = _Suites(project), read_history(project.state)
    told = tuple(_cell_forecast(step, suites, names, proven, past) for step in plan.steps)
    return Forecast(
        cells=told,
        jobs=decided.jobs,
        free=None if since or not holdings.images else _engine_free_disk(engine),
        send=send,
        unknown=tuple(step.cell.id for step in decided.steps_with(Action.BUILD)) if names else (),
        notes=tuple(notes),
    )


def _since(plan: BuildPlan, affected: Mapping[str, tuple[str, ...]], commit: str) -> BuildPlan:
    """A plan that builds what is affected, and nothing else."""
    steps = []
    for step in plan.steps:
        why = affected.get(step.cell.id, ())
        if not why:
            steps.append(replace(step, action=Action.SKIP, reason=f"not affected since {commit}", changes=()))
            continue
        more = f", and {len(why) - 1} more" if len(why) > 1 else ""
        steps.append(replace(step, action=Action.BUILD, reason=why[0] + more, changes=why))
    return replace(plan, steps=tuple(steps))


def _with_unselected(plan: BuildPlan, project: Project, patterns: Sequence[str]) -> BuildPlan:
    """The plan with every cell of the matrix, in its order; what was not chosen says so, and where it stands."""
    known = {step.cell.id: step for step in plan.steps}
    if len(known) == len(project.cells):
        return plan
    rule = " ".join(f"--select '{pattern}'" for pattern in patterns)
    rest = {cell.id: f"left out by {rule} ({cell.where})" for cell in project.cells if cell.id not in known}
    others = make_plan([c for c in project.cells if c.id in rest], skip=rest, jobs=plan.jobs)
    known.update({step.cell.id: step for step in others.steps})
    return replace(plan, steps=tuple(known[cell.id] for cell in project.cells))


def _unlocked(project: Project, plan: BuildPlan) -> Iterator[str]:
    """Bases of the plan whose digest nobody knows, said once for all."""
    locked = project.locked_bases
    wanted = dict.fromkeys(step.cell.base.image for step in plan.steps if not step.cell.extends)
    floating = [name for name in wanted if name not in locked]
    if floating:
        count = f"{len(floating)} of {len(wanted)} bases are not locked"
        shown = ", ".join(floating[:3]) + (" …" if len(floating) > 3 else "")
        yield f"{count} and count as the local store has them: {shown}; `rlimages bases --update` locks them"


def _published_names(cell: Cell, target: "ReleaseTarget") -> Iterator[str]:
    """Yield the names that a cell gets in the registries of a target."""
    for registry in (connection.registry for connection in target.connections):
        repository = f"{registry.host}/{registry.with_prefix(cell.repository)}"
        yield from (f"{repository}:{tag}" for tag in cell.tags)


def _cached_checks(plan: BuildPlan, engine: DockerEngine, project: Project) -> Iterator[tuple[str, frozenset[str]]]:
    """Cell -> its checks that passed before for the image that it keeps."""
    suites = _Suites(project)
    for step in plan.steps_with(Action.REUSE, Action.RETAG):
        image = engine.inspect(step.image_id)
        if image is not None:
            proofs = project.state.check_cache
            passed = (check.name for check in suites.of(step.cell) if cached_result(step.cell, image, check, proofs))
            yield step.cell.id, frozenset(passed)


def _cell_forecast(
    step: BuildStep,
    suites: "_Suites",
    names: Mapping[str, tuple[str, ...]],
    proven: Mapping[str, frozenset[str]],
    past: History,
) -> CellForecast:
    if step.action is Action.SKIP:
        return CellForecast(step=step, seconds=None, space=None, checks=(), proven=0, publishes=())
    before = proven.get(step.cell.id, frozenset())
    known = step.action is Action.BUILD and past.has_build(step.cell)
    return CellForecast(
        step=step,
        seconds=past.estimate(step.cell) if known else None,
        space=expected_disk(past.estimate_size(step.cell)) if known else None,
        checks=tuple(check.name for check in suites.of(step.cell) if check.name not in before),
        proven=len(before),
        publishes=names.get(step.cell.id, ()),
    )


def _bytes_to_upload(
    plan: BuildPlan,
    recalled: "Mapping[str, ReusedImage]",
    engine: DockerEngine,
    target: "ReleaseTarget",
    project: Project,
) -> int:
    """Bytes of layers that the places lack of the images that are here."""
    from rlimages.oci.packing import PackedCache
    from rlimages.release.packing import upload_size

    kept = [step for step in plan.steps_with(Action.REUSE, Action.RETAG) if step.cell.id not in recalled]
    images = [(step.cell, image) for step in kept if (image := engine.read_layers(step.image_id)) is not None]
    return upload_size(images, target.connections, PackedCache(project.state.packed))


def _engine_free_disk(engine: DockerEngine) -> int | None:
    data = engine.data_folder()
    return None if data is None else free_disk(data)


class _Suites:
    """Finds the checks of cells; those of one toolkit, without parents, are looked for once."""

    def __init__(self, project: Project) -> None:
        self._roots = project.roots
        self._matrix = project.cells_by_id
        self._known: dict[str, tuple[SmokeCheck, ...]] = {}

    def of(self, cell: Cell) -> tuple[SmokeCheck, ...]:
        if cell.extends:
            return find_checks(self._roots, cell, self._matrix)
        if cell.toolkit not in self._known:
            self._known[cell.toolkit] = find_checks(self._roots, cell, self._matrix)
        return tuple(replace(check, cell=cell) for check in self._known[cell.toolkit])
