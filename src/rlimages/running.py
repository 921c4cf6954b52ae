"""A run from its wishes to its report: check that files are in step, prepare, plan, go, write down."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages import planning, preparing, room, runs
from rlimages.cell import Cell
from rlimages.docker_engine import DockerEngine
from rlimages.engine import Engine
from rlimages.event import Event
from rlimages.holdings import Holdings
from rlimages.plan import Action, BuildPlan, Stage
from rlimages.preparing import Wishes
from rlimages.project import Project
from rlimages.results import CellReport, RunReport
from rlimages.runs import STATE
from rlimages.shell import Stop

if TYPE_CHECKING:
    from rlimages.booking import Booking
    from rlimages.publication import Publication


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
    """Take the cells through the stages; the folder with the logs and reports, and the report.

    What does the work is loaded only where there is some.
    """
    began = time.monotonic()
    todo = preparing.outline(project, cells, wishes)
    published: Publication | None = None
    if Stage.PUBLISH in wishes.stages:
        from rlimages import publication

        published = publication.open_publication(project, wishes, tuple(cells), environ=environ, stop=stop)
    folder = runs.open_run(project.root / STATE)
    engine = DockerEngine(run=folder.name, stop=stop)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        on_note(line)

    if Stage.BUILD in wishes.stages:
        holdings = _with_bases(todo, engine, project, on_note=on_note, note=note)
        todo = preparing.decided(project, preparing.without_orphans(todo, holdings, project), holdings, wishes)
        todo = published.take_over(todo) if published else todo
        if todo.of(Action.BUILD):
            engine.version()
        prepared = preparing.lent(project, todo, wishes, environ=environ)
        todo = preparing.dated(prepared.plan, int(time.time()))
        for line in prepared.notes:
            note(line)
    if wishes.stages == (Stage.BUILD,) and all(step.action is Action.REUSE for step in todo.steps):
        report = _kept(todo, folder.name, wishes.command, (*notes, *engine.cleanup()), time.monotonic() - began)
        runs.write_report(folder, report)
        return folder, report
    from rlimages import pipeline

    booking = _booking(project, todo, engine, wishes, stop)
    if Stage.BUILD in wishes.stages and todo.of(Action.BUILD) and booking.free() is None:
        note("the engine's data is not on this machine, so its disk is not watched")
    report = pipeline.run(
        todo,
        root=project.root,
        parents=project.roots[1:],
        folder=folder,
        engine=engine,
        stages=wishes.stages,
        matrix={name: cell for name, (_, cell) in project.family.items()},
        proofs=None if wishes.fresh else project.root / STATE / "proofs",
        booking=booking,
        state=project.root / STATE,
        on_passed=published.forwarder(engine) if published else None,
        elsewhere=published.elsewhere if published else {},
        command=wishes.command,
        notes=notes,
        stop=stop,
        on_event=on_event,
    )
    try:
        report = published.release(report, engine, folder, on_event) if published else report
    finally:
        runs.write_report(folder, report)
    return folder, report


def _kept(todo: BuildPlan, run: str, command: str, notes: Sequence[str], seconds: float) -> RunReport:
    """The report of a run that finds every image up to date."""
    built = tuple(planning.kept(step) for step in todo.steps)
    return RunReport(
        run=run,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        cells=tuple(CellReport(cell=result.cell, build=result, image=result.image) for result in built),
        notes=tuple(notes),
    )


def _with_bases(
    todo: BuildPlan, engine: Engine, project: Project, *, on_note: Callable[[str], None], note: Callable[[str], None]
) -> Holdings:
    """What the local store holds, after the open bases came there that were missing and are not locked."""
    holdings = engine.holdings()
    locked = project.locked_bases
    missing = [name for name in preparing.open_bases(todo) if name not in locked and holdings.find(name) is None]
    for reference in missing:
        from rlimages import bases

        on_note(f"base {reference}: bringing it, which takes a minute")
        base = bases.ensure(reference)
        note(f"base {base.reference}: {base.origin}, {base.detail}")
    return engine.holdings() if missing else holdings


def _booking(project: Project, todo: BuildPlan, engine: DockerEngine, wishes: Wishes, stop: Stop) -> "Booking":
    """Disk is watched always, memory unless the user has said how many may go on at once."""
    from rlimages import history
    from rlimages.booking import Booking

    held = frozenset(step.held for step in todo.steps)
    data = cache(engine.data)

    def free() -> int | None:
        folder = data()
        return room.free(folder) if folder else None

    return Booking(
        memory=None if wishes.jobs else room.look().memory,
        floor=wishes.disk_floor,
        free=free,
        reliefs=(
            lambda _wanted: engine.forget(history.read(project.root / STATE).images() - held),
            engine.shrink,
        ),
        stop=stop,
    )
