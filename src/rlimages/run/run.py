"""One run from its options to its report: prepare, plan, build, check, publish."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import Engine, LocalImages
from rlimages.matrix.cell import Cell
from rlimages.plan.decisions import reused_result
from rlimages.plan.events import Event
from rlimages.plan.results import CellReport, RunReport
from rlimages.plan.step import Action, BuildPlan, RunOptions, Stage
from rlimages.project.project import Project
from rlimages.run.prepare import (
    bootstrappable_bases,
    decide_plan,
    outline_plan,
    with_epoch,
    with_host_files,
    without_orphans,
)
from rlimages.run.report import write_report
from rlimages.system.context import RunContext
from rlimages.system.machine import free_disk, read_machine
from rlimages.system.process import Stop

if TYPE_CHECKING:
    from rlimages.build.resources import ResourceBudget
    from rlimages.release.reuse import ReusedImage
    from rlimages.release.target import ReleaseTarget


def run_cells(
    project: Project,
    cells: Sequence[Cell],
    wishes: RunOptions,
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
    todo = outline_plan(project, cells, wishes)
    target: ReleaseTarget | None = None
    reused: Mapping[str, ReusedImage] = {}
    if Stage.PUBLISH in wishes.stages:
        from rlimages.release.target import open_target

        target = open_target(project, cells, to=wishes.to, target=wishes.target, environ=environ)
    folder = project.state.open_run()
    engine = DockerEngine(run=folder.name, stop=stop)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        on_note(line)

    if Stage.BUILD in wishes.stages:
        holdings = _images_with_bases(todo, engine, project, on_note=on_note, note=note)
        todo = decide_plan(project, without_orphans(todo, holdings, project), holdings, wishes)
        if target and not wishes.fresh:
            from rlimages.release.reuse import find_reusable

            todo, reused = find_reusable(todo, target.connections[0], project)
        if todo.steps_with(Action.BUILD):
            engine.version()
        prepared = with_host_files(project, todo, wishes, environ=environ)
        todo = with_epoch(prepared.plan, int(time.time()))
        for line in prepared.notes:
            note(line)
    if wishes.stages == (Stage.BUILD,) and all(step.action is Action.REUSE for step in todo.steps):
        report = _reused_report(
            todo, folder.name, wishes.command, (*notes, *engine.remove_orphans()), time.monotonic() - began
        )
        write_report(folder, report)
        return folder, report
    from rlimages.run.scheduler import run_plan

    booking = _resource_budget(project, todo, engine, wishes, stop)
    if Stage.BUILD in wishes.stages and todo.steps_with(Action.BUILD) and booking.free_disk() is None:
        note("the engine's data is not on this machine, so its disk is not watched")
    on_passed: Callable[[CellReport], None] | None = None
    if target:
        from rlimages.release.publish import early_uploader

        on_passed = early_uploader(target, project, engine, stop).upload
    report = run_plan(
        todo,
        root=project.root,
        parents=project.roots[1:],
        folder=folder,
        engine=engine,
        stages=wishes.stages,
        matrix=project.cells_by_id,
        proofs=None if wishes.fresh else project.state.check_cache,
        booking=booking,
        state=project.state,
        on_passed=on_passed,
        elsewhere={cell: image.report for cell, image in reused.items()},
        command=wishes.command,
        notes=notes,
        stop=stop,
        on_event=on_event,
    )
    try:
        if target:
            from rlimages.release.publish import publish_images

            report = publish_images(
                report,
                target,
                project=project,
                engine=engine,
                folder=folder,
                reused=reused,
                allow_older=wishes.allow_older,
                context=RunContext(environ=environ, stop=stop, note=note),
                on_event=on_event,
            )
    finally:
        write_report(folder, report)
    return folder, report


def _reused_report(todo: BuildPlan, run: str, command: str, notes: Sequence[str], seconds: float) -> RunReport:
    """The report of a run that finds every image up to date."""
    built = tuple(reused_result(step) for step in todo.steps)
    return RunReport(
        run=run,
        command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        cells=tuple(CellReport(cell=result.cell, build=result, image=result.image) for result in built),
        notes=tuple(notes),
    )


def _images_with_bases(
    todo: BuildPlan, engine: Engine, project: Project, *, on_note: Callable[[str], None], note: Callable[[str], None]
) -> LocalImages:
    """What the local store holds, after the open bases came there that were missing and are not locked."""
    holdings = engine.local_images()
    locked = project.locked_bases
    missing = [name for name in bootstrappable_bases(todo) if name not in locked and holdings.find(name) is None]
    for reference in missing:
        from rlimages.build.base_images import ensure_base

        on_note(f"base {reference}: bringing it, which takes a minute")
        base = ensure_base(reference)
        note(f"base {base.reference}: {base.origin}, {base.detail}")
    return engine.local_images() if missing else holdings


def _resource_budget(
    project: Project, todo: BuildPlan, engine: DockerEngine, wishes: RunOptions, stop: Stop
) -> "ResourceBudget":
    """Disk is watched always, memory unless the user has said how many may go on at once."""
    from rlimages.build.resources import ResourceBudget
    from rlimages.plan.history import read_history

    held = frozenset(step.image_id for step in todo.steps)
    data = cache(engine.data_folder)

    def free() -> int | None:
        folder = data()
        return free_disk(folder) if folder else None

    return ResourceBudget(
        memory=None if wishes.jobs else read_machine().memory,
        disk_floor=wishes.disk_floor,
        free_disk=free,
        cleanups=(
            lambda _wanted: engine.remove_dangling(read_history(project.state).images() - held),
            engine.prune_build_cache,
        ),
        stop=stop,
    )
