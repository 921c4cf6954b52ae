"""Foresee what a run would do to every cell of the matrix: what is held is asked, nothing is changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rlimages import booking, history, preparing, room, schedule, smoke
from rlimages.cell import Cell
from rlimages.docker_engine import DockerEngine
from rlimages.errors import ToolError
from rlimages.forecast import Forecast, Outlook
from rlimages.history import History
from rlimages.holdings import Holdings
from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.preparing import Wishes
from rlimages.project import Project
from rlimages.runs import STATE
from rlimages.shell import Stop
from rlimages.smoke import Check

if TYPE_CHECKING:
    from rlimages.destination import Destination
    from rlimages.recall import Recalled


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
    todo = preparing.outline(project, cells, wishes)
    engine = DockerEngine(run="plan", stop=Stop())
    notes: list[str] = []
    try:
        holdings = Holdings() if since else engine.holdings()
    except ToolError as error:
        holdings = Holdings()
        notes.append(f"what is here is not known: {error}")
    if not since:
        todo = preparing.without_orphans(todo, holdings, project)
    decided = preparing.decided(project, todo, holdings, wishes)
    if since:
        from rlimages import ancestry

        decided = _since(decided, ancestry.affected(project, since), since)
    names: dict[str, tuple[str, ...]] = {}
    recalled: Mapping[str, Recalled] = {}
    send: int | None = None
    if wishes.to or wishes.target:
        from rlimages import publication  # what only publishing needs would double the start-up

        with publication.open_publication(project, wishes, tuple(cells), environ=environ, stop=Stop()) as published:
            decided = published.take_over(decided)
            recalled = published.recalled
            names = {cell.id: tuple(_names(cell, published.there)) for cell in cells}
            send = None if since else _send(decided, recalled, engine, published.there, project)
    plan = _all(decided, project, patterns)
    if any(step.action is not Action.SKIP for step in decided.steps):
        notes += _unlocked(project, decided)
    proven = {} if since else dict(_proven(decided, engine, project))
    proven.update((name, frozenset(one.proof.checks)) for name, one in recalled.items())
    suites, past = _Suites(project), history.read(project.root / STATE)
    told = tuple(_outlook(step, suites, names, proven, past) for step in plan.steps)
    return Forecast(
        cells=told,
        jobs=decided.jobs,
        free=None if since or not holdings.images else _free(engine),
        send=send,
        unknown=tuple(step.cell.id for step in decided.of(Action.BUILD)) if names else (),
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


def _names(cell: Cell, there: "Destination") -> Iterator[str]:
    """The names that a cell gets where it is published to."""
    for place in (opened.place for opened in there.places):
        repository = "/".join(filter(None, [place.host, place.prefix, cell.repository]))
        yield from (f"{repository}:{tag}" for tag in cell.tags)


def _proven(plan: BuildPlan, engine: DockerEngine, project: Project) -> Iterator[tuple[str, frozenset[str]]]:
    """Cell -> its checks that passed before for the image that it keeps."""
    suites = _Suites(project)
    for step in plan.of(Action.REUSE, Action.RETAG):
        image = engine.inspect(step.held)
        if image is not None:
            proofs = project.root / STATE / "proofs"
            passed = (check.name for check in suites.of(step.cell) if smoke.proven(step.cell, image, check, proofs))
            yield step.cell.id, frozenset(passed)


def _outlook(
    step: BuildStep,
    suites: "_Suites",
    names: Mapping[str, tuple[str, ...]],
    proven: Mapping[str, frozenset[str]],
    past: History,
) -> Outlook:
    if step.action is Action.SKIP:
        return Outlook(step=step, seconds=None, space=None, checks=(), proven=0, publishes=())
    before = proven.get(step.cell.id, frozenset())
    known = step.action is Action.BUILD and past.knows(step.cell)
    return Outlook(
        step=step,
        seconds=past.estimate(step.cell) if known else None,
        space=booking.expected(past.estimate_size(step.cell)) if known else None,
        checks=tuple(check.name for check in suites.of(step.cell) if check.name not in before),
        proven=len(before),
        publishes=names.get(step.cell.id, ()),
    )


def _send(
    plan: BuildPlan, recalled: "Mapping[str, Recalled]", engine: DockerEngine, there: "Destination", project: Project
) -> int:
    """Bytes of layers that the places lack of the images that are here."""
    from rlimages import freight
    from rlimages.archive import Shelf

    kept = [step for step in plan.of(Action.REUSE, Action.RETAG) if step.cell.id not in recalled]
    images = [(step.cell, image) for step in kept if (image := engine.stored(step.held)) is not None]
    return freight.to_send(images, there.places, Shelf(project.root / STATE / "packed"))


def _free(engine: DockerEngine) -> int | None:
    data = engine.data()
    return None if data is None else room.free(data)


class _Suites:
    """Finds the checks of cells; those of one toolkit, without parents, are looked for once."""

    def __init__(self, project: Project) -> None:
        self._roots = project.roots
        self._matrix = {name: cell for name, (_, cell) in project.family.items()}
        self._known: dict[str, tuple[Check, ...]] = {}

    def of(self, cell: Cell) -> tuple[Check, ...]:
        if cell.extends:
            return smoke.find_checks(self._roots, cell, self._matrix)
        if cell.toolkit not in self._known:
            self._known[cell.toolkit] = smoke.find_checks(self._roots, cell, self._matrix)
        return tuple(replace(check, cell=cell) for check in self._known[cell.toolkit])
