"""Forecast a run for `rlimages plan`: the action of each cell, the reason, and the time and disk that the run needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from rlimages.run.prepare import decide_plan, outline_plan, skip_without_parent
from rlimages.system.context import RunContext
from rlimages.system.machine import free_disk

if TYPE_CHECKING:
    from rlimages.release.reuse import ReusedImage
    from rlimages.release.target import ReleaseTarget

_SHOWN_BASES = 3
"""Maximum number of base images that a note names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellForecast:
    """The action of a run for one cell, and the time and disk that it needs."""

    step: BuildStep
    """The step of the plan, with the action and the reason for it."""
    seconds: float | None
    """Estimated time of the build and the checks; None if the cell is not built or was never built on this machine."""
    disk: int | None
    """Bytes of disk that the build needs; None if the cell is not built or was never built on this machine."""
    checks: tuple[str, ...]
    """Names of the checks that will run."""
    passed_checks: int
    """Number of checks that will not run, because the existing image passed them before."""
    published_names: tuple[str, ...]
    """References (`registry/repository:tag`) that the image gets in the target; empty if nothing is published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """The forecast of a run: all cells of the matrix, and the time and disk that they need together."""

    cells: tuple[CellForecast, ...]
    """All cells of the matrix, in its order. Cells that were not selected have the action SKIP."""
    jobs: int
    """Number of builds that run at the same time."""
    free_disk: int | None
    """Bytes free on the disk of the engine's data; None if not known: no local images, or a remote engine."""
    upload: int | None
    """Maximum bytes of existing images' layers that the registries lack; None if not known or nothing is published."""
    unknown_uploads: tuple[str, ...] = ()
    """Ids of the cells to publish whose layers are not known, because their images are not built yet."""
    notes: tuple[str, ...] = ()
    """Sentences for people, such as the reason why the local images are not known."""

    @property
    def plan(self) -> BuildPlan:
        """The plan with the steps of all cells of the matrix."""
        return BuildPlan(steps=tuple(cell.step for cell in self.cells), jobs=self.jobs)

    @property
    def changes(self) -> bool:
        """True if the run would build or retag at least one image."""
        return any(cell.step.action in (Action.BUILD, Action.RETAG) for cell in self.cells)

    @property
    def needed_disk(self) -> int:
        """Bytes of disk that all builds need together; a build of unknown size counts as 0."""
        return sum(cell.disk or 0 for cell in self.cells if cell.step.action is Action.BUILD)


def make_forecast(
    project: Project,
    cells: Sequence[Cell],
    options: RunOptions,
    *,
    patterns: Sequence[str],
    since: str,
    context: RunContext,
) -> Forecast:
    """Return the forecast of a run of `cells`, without building or changing any image.

    `patterns` are the patterns of cell ids that selected `cells`; the reasons of all other cells name them. If `since`
    names a commit, the cells to build are those that changed since it, and the engine is not asked. If the engine does
    not answer, the forecast assumes that there are no local images, and has a note about that. Raises `FactoryError`
    if a run would stop with an error before its first build.
    """
    notes: list[str] = []
    plan = outline_plan(project, cells, options)
    engine = DockerEngine(run="plan", stop=context.stop)

    # Decide what would be built.
    local_images = LocalImages()
    if not since:
        try:
            local_images = engine.local_images()
        except ToolError as error:
            notes.append(f"the local images are not known: {error}")
        plan = skip_without_parent(plan, project, local_images)
    plan = decide_plan(plan, project, local_images, options)
    if since:
        from rlimages.run.affected import affected_cells

        plan = _build_affected(plan, affected_cells(project, since), since)

    # Compare with the registries.
    names: Mapping[str, tuple[str, ...]] = {}
    reused: Mapping[str, ReusedImage] = {}
    upload: int | None = None
    if options.to or options.target:
        # Imported here: these modules would double the start-up time of `plan`.
        from rlimages.release.reuse import find_reusable
        from rlimages.release.target import open_target

        with open_target(project, cells, to=options.to, target=options.target, environ=context.environ) as target:
            if not options.fresh:
                plan, reused = find_reusable(plan, target.connections[0], project)
            names = {cell.id: tuple(_published_names(cell, target)) for cell in cells}
            upload = None if since else _upload_size(plan, reused, engine, target, project)

    # Estimate checks, time and disk.
    if any(step.action is not Action.SKIP for step in plan.steps):
        notes += _unlocked_bases(plan, project)
    suites = _Suites(project)
    passed = {} if since else dict(_cached_checks(plan, suites, engine, project))
    passed.update((cell, frozenset(image.pass_record.checks)) for cell, image in reused.items())
    history = read_history(project.state)
    return Forecast(
        cells=tuple(
            _forecast_cell(step, suites, names, passed, history)
            for step in _with_unselected(plan, project, patterns).steps
        ),
        jobs=plan.jobs,
        free_disk=None if since or not local_images.images else _free_engine_disk(engine),
        upload=upload,
        unknown_uploads=tuple(step.cell.id for step in plan.steps_with(Action.BUILD)) if names else (),
        notes=tuple(notes),
    )


def _build_affected(plan: BuildPlan, affected: Mapping[str, tuple[str, ...]], commit: str) -> BuildPlan:
    """Return `plan` with the action BUILD for each cell in `affected` (cell id -> reasons), and SKIP for all others.

    `commit` is named in the reason of cells that are skipped.
    """
    steps = []
    for step in plan.steps:
        changes = affected.get(step.cell.id, ())
        if changes:
            more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
            steps.append(replace(step, action=Action.BUILD, reason=changes[0] + more, changes=changes))
        else:
            steps.append(replace(step, action=Action.SKIP, reason=f"not affected since {commit}", changes=()))
    return replace(plan, steps=tuple(steps))


def _with_unselected(plan: BuildPlan, project: Project, patterns: Sequence[str]) -> BuildPlan:
    """Return `plan` extended to all cells of the matrix of `project`, in its order.

    Cells that `plan` does not have are skipped. The reason names `patterns`, the patterns that did not select them.
    """
    steps = {step.cell.id: step for step in plan.steps}
    if len(steps) == len(project.cells):
        return plan
    rule = " ".join(f"--select '{pattern}'" for pattern in patterns)
    reasons = {cell.id: f"left out by {rule} ({cell.where})" for cell in project.cells if cell.id not in steps}
    unselected = make_plan([cell for cell in project.cells if cell.id in reasons], skip=reasons, jobs=plan.jobs)
    steps.update({step.cell.id: step for step in unselected.steps})
    return replace(plan, steps=tuple(steps[cell.id] for cell in project.cells))


def _unlocked_bases(plan: BuildPlan, project: Project) -> Iterator[str]:
    """Yield one note that names base images of `plan` that `project` does not lock; nothing if all are locked."""
    locked = project.locked_bases
    bases = dict.fromkeys(step.cell.base.image for step in plan.steps if not step.cell.extends)
    unlocked = [name for name in bases if name not in locked]
    if unlocked:
        shown = ", ".join(unlocked[:_SHOWN_BASES]) + (" …" if len(unlocked) > _SHOWN_BASES else "")
        yield (
            f"{len(unlocked)} of {len(bases)} base images are not locked, and the local copies are used: {shown}; "
            "`rlimages bases --update` locks them"
        )


def _published_names(cell: Cell, target: "ReleaseTarget") -> Iterator[str]:
    """Yield each reference (`registry/repository:tag`) that the image of `cell` gets in the registries of `target`."""
    for registry in (connection.registry for connection in target.connections):
        repository = f"{registry.host}/{registry.with_prefix(cell.repository)}"
        yield from (f"{repository}:{tag}" for tag in cell.tags)


def _upload_size(
    plan: BuildPlan,
    reused: "Mapping[str, ReusedImage]",
    engine: DockerEngine,
    target: "ReleaseTarget",
    project: Project,
) -> int:
    """Return the maximum bytes of layers that the registries of `target` lack of the local images that `plan` uses.

    Images of cells in `reused` (by cell id) are in the registry already, and count as nothing.
    """
    from rlimages.oci.packing import PackedCache
    from rlimages.release.packing import upload_size

    local = [step for step in plan.steps_with(Action.REUSE, Action.RETAG) if step.cell.id not in reused]
    images = [(step.cell, image) for step in local if (image := engine.read_layers(step.image_id)) is not None]
    return upload_size(images, target.connections, PackedCache(project.state.packed))


def _cached_checks(
    plan: BuildPlan, suites: "_Suites", engine: DockerEngine, project: Project
) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield (cell id, names of the checks that its image passed before) for each step of `plan` that uses an image.

    The passed checks are in the check cache of `project`. A step whose image is not in the local store is left out.
    """
    for step in plan.steps_with(Action.REUSE, Action.RETAG):
        image = engine.inspect(step.image_id)
        if image is not None:
            cache = project.state.check_cache
            passed = (check.name for check in suites.find(step.cell) if cached_result(step.cell, image, check, cache))
            yield step.cell.id, frozenset(passed)


def _forecast_cell(
    step: BuildStep,
    suites: "_Suites",
    names: Mapping[str, tuple[str, ...]],
    passed_checks: Mapping[str, frozenset[str]],
    history: History,
) -> CellForecast:
    """Return the forecast of the cell of `step`, with time and disk estimated from `history`.

    `names` maps cell ids to the references that are published; `passed_checks` maps them to the names of the checks
    that the image passed before.
    """
    cell = step.cell
    if step.action is Action.SKIP:
        return CellForecast(step=step, seconds=None, disk=None, checks=(), passed_checks=0, published_names=())
    passed = passed_checks.get(cell.id, frozenset())
    is_measured = step.action is Action.BUILD and history.has_build(cell)
    return CellForecast(
        step=step,
        seconds=history.estimate(cell) if is_measured else None,
        disk=expected_disk(history.estimate_size(cell)) if is_measured else None,
        checks=tuple(check.name for check in suites.find(cell) if check.name not in passed),
        passed_checks=len(passed),
        published_names=names.get(cell.id, ()),
    )


def _free_engine_disk(engine: DockerEngine) -> int | None:
    """Return the bytes free on the disk of the engine's data; None if the engine is on another machine."""
    folder = engine.data_folder()
    return None if folder is None else free_disk(folder)


class _Suites:
    """A finder of cells' checks. It reads a toolkit's folders once for all its cells that extend no other cell."""

    def __init__(self, project: Project) -> None:
        """Create a finder for the cells of `project`. No folder is read yet."""
        self._roots = project.roots
        self._cells_by_id = project.cells_by_id
        self._by_toolkit: dict[str, tuple[SmokeCheck, ...]] = {}

    def find(self, cell: Cell) -> tuple[SmokeCheck, ...]:
        """Return the checks that run in the image of `cell`."""
        if cell.extends:
            return find_checks(self._roots, cell, self._cells_by_id)
        if cell.toolkit not in self._by_toolkit:
            self._by_toolkit[cell.toolkit] = find_checks(self._roots, cell, self._cells_by_id)
        return tuple(replace(check, cell=cell) for check in self._by_toolkit[cell.toolkit])
