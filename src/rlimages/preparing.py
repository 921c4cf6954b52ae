"""What a run would do, before any of it is done: files in step, order, bases, and what this machine lends."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages import planning, room, schedule, tree
from rlimages.cell import Cell
from rlimages.errors import MatrixError, StaleError
from rlimages.holdings import Holdings
from rlimages.plan import Action, BuildPlan, Stage
from rlimages.project import Project
from rlimages.runs import STATE
from rlimages.schedule import Override

if TYPE_CHECKING:
    from rlimages.bases import BaseResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the command line says about a run."""

    stages: tuple[Stage, ...]
    command: str
    to: str = ""
    """A plain registry to publish to: `host[:port][/prefix]`."""
    target: str = ""
    """A target of `targets.yaml` to publish to."""
    allow_older: bool = False
    """Tags may go back to an older image."""
    region: str | None = None
    overrides: tuple[str, ...] = ()
    override_file: Path | None = None
    wheels: tuple[Path, ...] = ()
    jobs: int | None = None
    timeout: int | None = None
    cache_from: tuple[str, ...] = ()
    """Registries whose images lend their layers."""
    inline_cache: bool = False
    """Make images that can lend theirs."""
    disk_floor: int = room.FLOOR
    """Bytes that builds leave free where the engine keeps its data."""
    fresh: bool = False
    """Run checks again that passed before for this very image."""
    no_cache: bool = False
    """Build also what is up to date, and from nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A plan, and what was taken from this machine for it."""

    plan: BuildPlan
    notes: tuple[str, ...]


def outline(project: Project, cells: Sequence[Cell], wishes: Wishes) -> BuildPlan:
    """What a run would do that knew of no image. Raises `StaleError` where files are not what the matrix gives."""
    chosen = tuple(cells)
    _insist_on_step(project, chosen)
    return schedule.make_plan(
        chosen,
        registries=project.base_arguments(chosen, wishes.region),
        overrides=overrides(wishes),
        caches=wishes.cache_from,
        inline_cache=wishes.inline_cache,
        jobs=wishes.jobs or _fitting_jobs(wishes.stages),
        timeout=wishes.timeout,
    )


def decided(project: Project, todo: BuildPlan, holdings: Holdings, wishes: Wishes) -> BuildPlan:
    """The same, knowing which images there are."""
    return planning.decide(
        todo,
        project.root,
        holdings,
        bases=project.locked_bases,
        afresh=wishes.no_cache,
    )


def lent(project: Project, todo: BuildPlan, wishes: Wishes, *, environ: Mapping[str, str]) -> Prepared:
    """The same, with what images say of themselves, and what this machine lends to builds."""
    builds = todo.of(Action.BUILD)
    if not builds:
        return Prepared(plan=todo, notes=())
    from rlimages import buildhost, revision  # only what is built needs them, and most often nothing is

    locks = {step.cell.id: tree.read(project.root / step.cell.lock) or "" for step in builds}
    hosts = buildhost.prepare(
        project.root / STATE / "buildhost", locks, environ=environ, home=Path.home(), wheels=wishes.wheels
    )
    told = planning.labelled(todo, project.root, revision.labels(project.root))
    return Prepared(plan=schedule.lend(told, hosts.folders), notes=hosts.notes)


def dated(todo: BuildPlan, epoch: int) -> BuildPlan:
    """The same, each image with a date of creation in whole seconds: what can be given to it a second time."""
    return replace(todo, steps=tuple(replace(step, epoch=epoch) for step in todo.steps))


def without_orphans(todo: BuildPlan, holdings: Holdings, project: Project) -> BuildPlan:
    """The same, but that a cell is skipped whose parent is neither built in this run nor in the local store."""
    steps = []
    for step in todo.steps:
        base = step.cell.base
        here = step.needs or base.image in dict(step.contexts) or base.registry is not None
        if step.cell.extends is None or here or holdings.find(base.image) is not None:
            steps.append(step)
            continue
        owner, _ = project.family[step.cell.extends]
        where = "" if owner is project else f" --matrix {owner.root / tree.MATRIX}"
        remedy = f"rlimages{where} build --select {step.cell.extends}"
        reason = f"there is no image {base.image} in the local store; {remedy}"
        steps.append(replace(step, action=Action.SKIP, reason=reason))
    return replace(todo, steps=tuple(steps))


def bases_of(cells: Sequence[Cell]) -> Iterator["BaseResult"]:
    """Bring the open bases of these cells into the local store."""
    from rlimages import bases

    wanted = dict.fromkeys(cell.base.image for cell in cells if cell.base.registry is None)
    yield from (bases.ensure(reference) for reference in wanted if bases.slim_suite(reference))


def open_bases(todo: BuildPlan) -> tuple[str, ...]:
    """The Debian bases of a plan, but those that something stands in for."""
    from rlimages import bases

    replaced = {name for step in todo.steps for name, _ in step.contexts}
    wanted = dict.fromkeys(step.cell.base.image for step in todo.steps if step.cell.base.registry is None)
    return tuple(name for name in wanted if name not in replaced and bases.slim_suite(name))


def overrides(wishes: Wishes) -> tuple[Override, ...]:
    """The stand-ins for bases, those of the command line first. Raises `MatrixError` naming the line."""
    lines = list(wishes.overrides)
    if wishes.override_file is not None:
        text = tree.read(wishes.override_file)
        if text is None:
            raise MatrixError(f"{wishes.override_file}: there is no such file of base overrides")
        lines += [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    return tuple(schedule.parse_override(line) for line in lines)


def _fitting_jobs(stages: Sequence[Stage]) -> int:
    """Checks compute all the time. Builds wait for network and disk in between, so one more than cores goes on."""
    here = room.look()
    more = 1 if tuple(stages) == (Stage.BUILD,) else 0
    return schedule.default_jobs(cores=here.cores + more, memory=here.memory)


def _insist_on_step(project: Project, cells: tuple[Cell, ...]) -> None:
    problem = project.out_of_step(cells)
    if problem:
        raise StaleError(problem)
