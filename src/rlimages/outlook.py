"""Foresee what a run would do to every cell of the matrix: what is held is asked, nothing is changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rlimages import ancestry, destination, running, schedule, smoke
from rlimages.cell import Cell
from rlimages.destination import STATE
from rlimages.engine import DockerEngine
from rlimages.errors import ToolError
from rlimages.forecast import Forecast, Outlook
from rlimages.holdings import Holdings
from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.project import Project
from rlimages.running import Wishes
from rlimages.shell import Stop


def foresee(
    project: Project,
    cells: Sequence[Cell],
    wishes: Wishes,
    *,
    patterns: Sequence[str],
    since: str,
    environ: Mapping[str, str],
) -> Forecast:
    """What a run with these wishes would do. `since` compares with a commit, and asks no engine.

    Raises what a run would raise before its first build, but for an engine that does not answer: then nothing is known
    to be there, and a note says so.
    """
    todo = running.outline(project, cells, wishes)
    engine = DockerEngine(run="plan", stop=Stop())
    notes: list[str] = []
    try:
        holdings = Holdings() if since else engine.holdings()
    except ToolError as error:
        holdings = Holdings()
        notes.append(f"what is here is not known: {error}")
    if not since:
        todo = running.without_orphans(todo, holdings, project)
    decided = running.decided(project, todo, holdings, wishes)
    if since:
        decided = _since(decided, ancestry.affected(project, since), since)
    plan = _all(decided, project, patterns)
    notes += _unlocked(project, decided)
    names = dict(_names(project, decided, wishes, environ))
    proven = {} if since else dict(_proven(decided, holdings, engine, project))
    told = tuple(_outlook(step, project, names, proven) for step in plan.steps)
    return Forecast(
        cells=told,
        jobs=decided.jobs,
        free=None,
        send=None,
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


def _all(plan: BuildPlan, project: Project, patterns: Sequence[str]) -> BuildPlan:
    """The plan with every cell of the matrix, in its order; what was not chosen says so, and where it stands."""
    known = {step.cell.id: step for step in plan.steps}
    if len(known) == len(project.cells):
        return plan
    rule = " ".join(f"--select '{pattern}'" for pattern in patterns)
    rest = {cell.id: f"left out by {rule} ({cell.where})" for cell in project.cells if cell.id not in known}
    others = schedule.make_plan([c for c in project.cells if c.id in rest], skip=rest, jobs=plan.jobs)
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


def _names(
    project: Project, plan: BuildPlan, wishes: Wishes, environ: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Cell -> the names that it gets where it is published to."""
    if not (wishes.to or wishes.target):
        return
    cells = [step.cell for step in plan.steps]
    there = destination.destination(project, cells, to=wishes.to, target=wishes.target, environ=environ)
    for cell in cells:
        yield (
            cell.id,
            tuple(
                f"{opened.place.host}/{'/'.join(filter(None, [opened.place.prefix, cell.repository]))}:{tag}"
                for opened in there.places
                for tag in cell.tags
            ),
        )
    for opened in there.places:
        opened.registry.close()


def _proven(
    plan: BuildPlan, holdings: Holdings, engine: DockerEngine, project: Project
) -> Iterator[tuple[str, frozenset[str]]]:
    """Cell -> its checks that passed before for the image that it keeps."""
    matrix = {name: cell for name, (_, cell) in project.family.items()}
    for step in plan.of(Action.REUSE, Action.RETAG):
        image = engine.inspect(step.held)
        if image is not None:
            checks = smoke.find_checks(project.roots, step.cell, matrix)
            proofs = project.root / STATE / "proofs"
            passed = (check.name for check in checks if smoke.proven(step.cell, image, check, proofs))
            yield step.cell.id, frozenset(passed)


def _outlook(
    step: BuildStep, project: Project, names: Mapping[str, tuple[str, ...]], proven: Mapping[str, frozenset[str]]
) -> Outlook:
    if step.action is Action.SKIP:
        return Outlook(step=step, seconds=None, space=None, checks=(), proven=0, publishes=())
    matrix = {name: cell for name, (_, cell) in project.family.items()}
    before = proven.get(step.cell.id, frozenset())
    checks = tuple(check.name for check in smoke.find_checks(project.roots, step.cell, matrix))
    return Outlook(
        step=step,
        seconds=None,
        space=None,
        checks=tuple(name for name in checks if name not in before),
        proven=len(before),
        publishes=names.get(step.cell.id, ()),
    )
