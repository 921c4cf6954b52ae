"""Prepare a run: make its plan, fetch missing base images, and collect this machine's settings for its builds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from rlimages.system.context import RunContext
from rlimages.system.files import read_text
from rlimages.system.machine import read_machine

if TYPE_CHECKING:
    from rlimages.build.base_images import BaseResult


def outline_plan(project: Project, cells: Sequence[Cell], options: RunOptions) -> BuildPlan:
    """Return a plan that builds every cell of `cells`, parents first; `decide_plan` then finds images to reuse.

    No engine is asked. Raises `StaleError` if a generated Dockerfile or a lock of `cells` is not up to date, and
    `ConfigError` or `UsageError` for a mistake in the matrix or in `options`.
    """
    problem = first_stale_file(project, tuple(cells))
    if problem:
        raise StaleError(problem)
    return make_plan(
        cells,
        registries=project.base_arguments(cells, options.region),
        overrides=read_overrides(options),
        caches=options.cache_from,
        inline_cache=options.inline_cache,
        jobs=options.jobs or _default_jobs(options.stages),
        timeout=options.timeout,
    )


def decide_plan(plan: BuildPlan, project: Project, local_images: LocalImages, options: RunOptions) -> BuildPlan:
    """Return `plan` with the action of each step: BUILD, or REUSE or RETAG of one of `local_images`.

    Steps that are skipped stay skipped. Of `options`, only `no_cache` has an effect: then all steps are built.
    """
    return decide_actions(plan, project.root, local_images, bases=project.locked_bases, no_cache=options.no_cache)


def skip_without_parent(plan: BuildPlan, project: Project, local_images: LocalImages) -> BuildPlan:
    """Return `plan` with the action SKIP for each cell that extends a cell whose image is missing.

    An image is missing if it is neither built in this run nor in `local_images`, if the build cannot pull it from a
    registry, and if no base override replaces it. The reason names the command that builds it.
    """
    steps = []
    for step in plan.steps:
        base = step.cell.base
        # A base override replaces the parent; a base with a registry is pulled by the build.
        has_base = step.needs or base.image in dict(step.request.contexts) or base.registry is not None
        if step.cell.extends is None or has_base or local_images.find(base.image) is not None:
            steps.append(step)
            continue
        owner = project.owners[step.cell.extends]
        matrix_option = "" if owner is project else f" --matrix {owner.root / MATRIX}"
        remedy = f"rlimages{matrix_option} build --select {step.cell.extends}"
        reason = f"there is no image {base.image} in the local store; {remedy}"
        steps.append(replace(step, action=Action.SKIP, reason=reason))
    return replace(plan, steps=tuple(steps))


def add_host_files(plan: BuildPlan, project: Project, options: RunOptions, context: RunContext) -> BuildPlan:
    """Return `plan` with labels and a named context in the build request of each step that is built.

    The labels have the commit and the digests of the inputs. The context has this machine's certificates, pip settings
    and wheels, which are written into the state folder of `project`. `context.note` gets a sentence about each of them.
    """
    builds = plan.steps_with(Action.BUILD)
    if not builds:
        return plan
    # Imported here: most runs find every image up to date.
    from rlimages.build.git import revision_labels
    from rlimages.build.host_context import prepare_contexts

    locks = {step.cell.id: read_text(project.root / step.cell.lock) or "" for step in builds}
    host_contexts = prepare_contexts(
        project.state.host_contexts, locks, environ=context.environ, home=Path.home(), wheels=options.wheels
    )
    for line in host_contexts.notes:
        context.note(line)
    labelled = add_input_labels(plan, project.root, revision_labels(project.root))
    return add_host_contexts(labelled, host_contexts.folders)


def set_creation_date(plan: BuildPlan, epoch: int) -> BuildPlan:
    """Return `plan` with `epoch` (seconds since 1970) as creation date of each image that is built.

    A date in whole seconds can be passed to a later build, so that `rlimages reproduce` gets identical layers.
    """
    return replace(plan, steps=tuple(step.with_request(epoch=epoch) for step in plan.steps))


def missing_bases(plan: BuildPlan, project: Project, local_images: LocalImages) -> tuple[str, ...]:
    """Return the references of the Debian base images of `plan` that are neither locked nor in `local_images`.

    Only `debian:<suite>-slim` images count. Locked base images are left out because the build pulls them by digest, and
    base images with an override because no build needs them.
    """
    from rlimages.build.base_images import slim_suite

    locked = project.locked_bases
    overridden = {name for step in plan.steps for name, _ in step.request.contexts}
    return tuple(
        name
        for name in _bases_without_registry([step.cell for step in plan.steps])
        if name not in overridden and slim_suite(name) and name not in locked and local_images.find(name) is None
    )


def ensure_bases(cells: Sequence[Cell]) -> Iterator["BaseResult"]:
    """Make sure that the `debian:<suite>-slim` base images of `cells` are in the local store.

    Yield the result of each image as soon as it was found, pulled or bootstrapped. Raises `ToolError` if a program is
    missing or fails.
    """
    from rlimages.build.base_images import ensure_base, slim_suite

    yield from (ensure_base(name) for name in _bases_without_registry(cells) if slim_suite(name))


def read_overrides(options: RunOptions) -> tuple[BaseOverride, ...]:
    """Return the base overrides of `options.overrides`, then those in the file `options.override_file`.

    Empty lines and lines that start with `#` are ignored in the file. Raises `ConfigError` if the file does not exist,
    and `UsageError` for an override that is not `REGEX=REFERENCE`.
    """
    lines = list(options.overrides)
    if options.override_file is not None:
        text = read_text(options.override_file)
        if text is None:
            raise ConfigError(f"{options.override_file}: there is no such file of base overrides")
        lines += [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    return tuple(parse_override(line) for line in lines)


def _bases_without_registry(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the base image of each of `cells` that is not in a registry of the account tables, each image once."""
    return tuple(dict.fromkeys(cell.base.image for cell in cells if cell.base.registry is None))


def _default_jobs(stages: Sequence[Stage]) -> int:
    """Return how many cells go through `stages` at the same time on this machine if the user gives no number."""
    machine = read_machine()
    # Checks use a core all the time. Builds wait for network and disk in between: one more than the cores fits.
    extra = 1 if tuple(stages) == (Stage.BUILD,) else 0
    return default_jobs(cores=machine.cores + extra, memory=machine.memory)
