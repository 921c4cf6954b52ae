"""Prepare a run: check that generated files are up to date, make the plan, collect what builds need of this machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.build.resources import default_jobs
from rlimages.engine.protocol import LocalImages
from rlimages.errors import ConfigError, StaleError
from rlimages.matrix.cell import Cell
from rlimages.plan.decisions import add_input_labels, decide_actions
from rlimages.plan.planner import BaseOverride, add_host_contexts, make_plan, parse_override
from rlimages.plan.step import Action, BuildPlan, RunOptions, Stage
from rlimages.project.generated import first_stale_file
from rlimages.project.project import MATRIX, Project
from rlimages.system.files import read_text
from rlimages.system.machine import read_machine

if TYPE_CHECKING:
    from rlimages.build.base_images import BaseResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A plan, and what was taken from this machine for it."""

    plan: BuildPlan
    notes: tuple[str, ...]


def outline_plan(project: Project, cells: Sequence[Cell], wishes: RunOptions) -> BuildPlan:
    """What a run would do that knew of no image. Raises `StaleError` where files are not what the matrix gives."""
    chosen = tuple(cells)
    _require_up_to_date(project, chosen)
    return make_plan(
        chosen,
        registries=project.base_arguments(chosen, wishes.region),
        overrides=read_overrides(wishes),
        caches=wishes.cache_from,
        inline_cache=wishes.inline_cache,
        jobs=wishes.jobs or _fitting_jobs(wishes.stages),
        timeout=wishes.timeout,
    )


def decide_plan(project: Project, todo: BuildPlan, holdings: LocalImages, wishes: RunOptions) -> BuildPlan:
    """The same, knowing which images there are."""
    return decide_actions(
        todo,
        project.root,
        holdings,
        bases=project.locked_bases,
        no_cache=wishes.no_cache,
    )


def with_host_files(project: Project, todo: BuildPlan, wishes: RunOptions, *, environ: Mapping[str, str]) -> Prepared:
    """The same, with what images say of themselves, and what this machine lends to builds."""
    builds = todo.steps_with(Action.BUILD)
    if not builds:
        return Prepared(plan=todo, notes=())
    from rlimages.build.git import revision_labels
    from rlimages.build.host_context import prepare_contexts  # only what is built needs them, and most often nothing is

    locks = {step.cell.id: read_text(project.root / step.cell.lock) or "" for step in builds}
    hosts = prepare_contexts(
        project.state.host_contexts, locks, environ=environ, home=Path.home(), wheels=wishes.wheels
    )
    told = add_input_labels(todo, project.root, revision_labels(project.root))
    return Prepared(plan=add_host_contexts(told, hosts.folders), notes=hosts.notes)


def with_epoch(todo: BuildPlan, epoch: int) -> BuildPlan:
    """The same, each image with a date of creation in whole seconds: what can be given to it a second time."""
    return replace(todo, steps=tuple(step.with_request(epoch=epoch) for step in todo.steps))


def without_orphans(todo: BuildPlan, holdings: LocalImages, project: Project) -> BuildPlan:
    """The same, but that a cell is skipped whose parent is neither built in this run nor in the local store."""
    steps = []
    for step in todo.steps:
        base = step.cell.base
        here = step.needs or base.image in dict(step.request.contexts) or base.registry is not None
        if step.cell.extends is None or here or holdings.find(base.image) is not None:
            steps.append(step)
            continue
        owner = project.owners[step.cell.extends]
        where = "" if owner is project else f" --matrix {owner.root / MATRIX}"
        remedy = f"rlimages{where} build --select {step.cell.extends}"
        reason = f"there is no image {base.image} in the local store; {remedy}"
        steps.append(replace(step, action=Action.SKIP, reason=reason))
    return replace(todo, steps=tuple(steps))


def ensure_bases(cells: Sequence[Cell]) -> Iterator["BaseResult"]:
    """Bring the open bases of these cells into the local store."""
    from rlimages.build.base_images import ensure_base, slim_suite

    wanted = dict.fromkeys(cell.base.image for cell in cells if cell.base.registry is None)
    yield from (ensure_base(reference) for reference in wanted if slim_suite(reference))


def bootstrappable_bases(todo: BuildPlan) -> tuple[str, ...]:
    """The Debian bases of a plan, but those that something stands in for."""
    from rlimages.build.base_images import slim_suite

    replaced = {name for step in todo.steps for name, _ in step.request.contexts}
    wanted = dict.fromkeys(step.cell.base.image for step in todo.steps if step.cell.base.registry is None)
    return tuple(name for name in wanted if name not in replaced and slim_suite(name))


def read_overrides(wishes: RunOptions) -> tuple[BaseOverride, ...]:
    """The stand-ins for bases, those of the command line first. Raises `ConfigError` naming the line."""
    lines = list(wishes.overrides)
    if wishes.override_file is not None:
        text = read_text(wishes.override_file)
        if text is None:
            raise ConfigError(f"{wishes.override_file}: there is no such file of base overrides")
        lines += [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    return tuple(parse_override(line) for line in lines)


def _fitting_jobs(stages: Sequence[Stage]) -> int:
    """Checks compute all the time. Builds wait for network and disk in between, so one more than cores goes on."""
    here = read_machine()
    more = 1 if tuple(stages) == (Stage.BUILD,) else 0
    return default_jobs(cores=here.cores + more, memory=here.memory)


def _require_up_to_date(project: Project, cells: tuple[Cell, ...]) -> None:
    problem = first_stale_file(project, cells)
    if problem:
        raise StaleError(problem)
