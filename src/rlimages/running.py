"""A run from its wishes to its report: check that files are in step, prepare, plan, go, write down."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages import bases, buildhost, destination, lock, packing, pipeline, releasing, room, runs, schedule, tree
from rlimages.bases import BaseResult
from rlimages.booking import Booking
from rlimages.cell import Cell
from rlimages.destination import STATE
from rlimages.engine import DockerEngine, Engine
from rlimages.errors import MatrixError, StaleError
from rlimages.pipeline import Event, Stage
from rlimages.plan import Action, BuildPlan
from rlimages.project import Project
from rlimages.results import RunReport
from rlimages.schedule import Override
from rlimages.shell import Stop


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A plan, and what was taken from this machine for it."""

    plan: BuildPlan
    notes: tuple[str, ...]


def prepare(project: Project, cells: Sequence[Cell], wishes: Wishes, *, environ: Mapping[str, str]) -> Prepared:
    """Decide what a run would do. Raises `StaleError` where a recipe or lock is not what the matrix gives."""
    chosen = tuple(cells)
    _insist_on_step(project, chosen)
    locks = {cell.id: tree.read(project.root / cell.lock) or "" for cell in chosen}
    hosts = buildhost.prepare(
        project.root / STATE / "buildhost", locks, environ=environ, home=Path.home(), wheels=wishes.wheels
    )
    plan = schedule.make_plan(
        chosen,
        registries=project.base_arguments(chosen, wishes.region),
        overrides=overrides(wishes),
        buildhosts=hosts.folders,
        caches=wishes.cache_from,
        inline_cache=wishes.inline_cache,
        jobs=wishes.jobs or _fitting_jobs(),
        timeout=wishes.timeout,
    )
    return Prepared(plan=plan, notes=hosts.notes if Stage.BUILD in wishes.stages else ())


def run(
    project: Project,
    cells: Sequence[Cell],
    wishes: Wishes,
    *,
    environ: Mapping[str, str],
    stop: Stop,
    on_event: Callable[[Event], None],
    on_note: Callable[[str], None],
) -> tuple[Path, RunReport]:
    """Take the cells through the stages; the folder with the logs and reports, and the report."""
    prepared = prepare(project, cells, wishes, environ=environ)
    there = None
    if Stage.PUBLISH in wishes.stages:
        there = destination.destination(project, cells, to=wishes.to, target=wishes.target, environ=environ)
    folder = runs.open_run(project.root / STATE)
    engine = DockerEngine(run=folder.name, stop=stop)
    engine.version()
    notes = list(prepared.notes)
    booking = _booking(engine, wishes, stop)
    if Stage.BUILD in wishes.stages and booking.free() is None:
        notes.append("the engine's data is not on this machine, so its disk is not watched")
    for note in notes:
        on_note(note)
    for reference in open_bases(prepared.plan) if Stage.BUILD in wishes.stages else ():
        on_note(f"base {reference}: bringing it, which takes a minute where it is not here yet")
        base = bases.ensure(reference)
        notes.append(f"base {base.reference}: {base.origin}, {base.detail}")
        on_note(notes[-1])
    report = pipeline.run(
        without_orphans(prepared.plan, engine, project) if Stage.BUILD in wishes.stages else prepared.plan,
        root=project.root,
        parents=project.roots[1:],
        folder=folder,
        engine=engine,
        stages=wishes.stages,
        matrix={name: cell for name, (_, cell) in project.family.items()},
        proofs=None if wishes.fresh else project.root / STATE / "proofs",
        booking=booking,
        state=project.root / STATE,
        on_passed=packing.packer(engine.save, project.root / STATE, stop) if there is not None else None,
        command=wishes.command,
        notes=notes,
        stop=stop,
        on_event=on_event,
    )
    try:
        if there is not None:
            report, _ = releasing.release(
                report,
                there,
                project=project,
                engine=engine,
                folder=folder,
                environ=environ,
                stop=stop,
                on_event=on_event,
                may_go_back=wishes.allow_older,
            )
    finally:
        runs.write_report(folder, report)
    return folder, report


def without_orphans(todo: BuildPlan, engine: Engine, project: Project) -> BuildPlan:
    """The same, but that a cell is skipped whose parent is neither built in this run nor in the local store."""
    steps = []
    for step in todo.steps:
        base = step.cell.base
        here = step.needs or base.image in dict(step.contexts) or base.registry is not None
        if step.cell.extends is None or here or engine.inspect(base.image) is not None:
            steps.append(step)
            continue
        owner, _ = project.family[step.cell.extends]
        where = "" if owner is project else f" --matrix {owner.root / tree.MATRIX}"
        remedy = f"rlimages{where} build --select {step.cell.extends}"
        reason = f"there is no image {base.image} in the local store; {remedy}"
        steps.append(replace(step, action=Action.SKIP, reason=reason))
    return replace(todo, steps=tuple(steps))


def bases_of(cells: Sequence[Cell]) -> Iterator[BaseResult]:
    """Bring the open bases of these cells into the local store."""
    wanted = dict.fromkeys(cell.base.image for cell in cells if cell.base.registry is None)
    yield from (bases.ensure(reference) for reference in wanted if bases.slim_suite(reference))


def open_bases(todo: BuildPlan) -> tuple[str, ...]:
    """The Debian bases of a plan, but those that something stands in for."""
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


def _fitting_jobs() -> int:
    here = room.look()
    return schedule.default_jobs(cores=here.cores, memory=here.memory)


def _booking(engine: DockerEngine, wishes: Wishes, stop: Stop) -> Booking:
    """Disk is watched always, memory unless the user has said how many may go on at once."""
    data = engine.data()
    return Booking(
        memory=None if wishes.jobs else room.look().memory,
        floor=wishes.disk_floor,
        free=lambda: room.free(data) if data else None,
        reliefs=(engine.shrink,),
        stop=stop,
    )


def _insist_on_step(project: Project, cells: tuple[Cell, ...]) -> None:
    for path, text in project.generated(cells).items():
        if tree.read(project.root / path) != text:
            raise StaleError(f"{path} is not what the matrix and the templates give; run `rlimages render`")
    for problem in lock.stale(project.lock_inputs(cells), project.root, ()):
        raise StaleError(problem)
