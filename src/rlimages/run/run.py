"""Run cells, from the options of a command to the report: prepare, plan, build, check, publish, write the report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import LocalImages
from rlimages.matrix.cell import Cell
from rlimages.plan.decisions import reused_result
from rlimages.plan.events import Event
from rlimages.plan.results import CellReport, RunReport
from rlimages.plan.step import Action, BuildPlan, RunOptions, Stage
from rlimages.project.project import Project
from rlimages.run.prepare import (
    add_host_files,
    decide_plan,
    missing_bases,
    outline_plan,
    set_creation_date,
    skip_without_parent,
)
from rlimages.run.report import write_report
from rlimages.system.context import RunContext
from rlimages.system.machine import free_disk, read_machine

if TYPE_CHECKING:
    from rlimages.build.resources import ResourceBudget
    from rlimages.release.reuse import ReusedImage
    from rlimages.release.target import ReleaseTarget


def run_cells(
    project: Project,
    cells: Sequence[Cell],
    options: RunOptions,
    *,
    context: RunContext,
    on_event: Callable[[Event], None],
) -> tuple[Path, RunReport]:
    """Run the stages of `options` on `cells`. Return the folder of the run, with its logs and reports, and the report.

    `on_event` is called with each progress event. A cell that fails is part of the report, and nothing is raised for
    it. Raises `FactoryError`, before anything is built, for a mistake in a file, an option or a target, and if no
    engine answers. Raises `AcceptanceError` if an acceptance rule forbids to publish an image.
    """
    # Modules that build, check or publish are imported when they are needed: most runs find every image up to date.
    started = time.monotonic()
    notes: list[str] = []

    def record(line: str) -> None:
        """Print `line` as a note, and add it to the notes of the report."""
        notes.append(line)
        context.note(line)

    # Prepare: find mistakes before hours of work.
    plan = outline_plan(project, cells, options)
    target: ReleaseTarget | None = None
    if Stage.PUBLISH in options.stages:
        from rlimages.release.target import open_target

        target = open_target(project, cells, to=options.to, target=options.target, environ=context.environ)
    folder = project.state.open_run()
    engine = DockerEngine(run=folder.name, stop=context.stop)

    # Plan: build only what neither the local store nor the registry has.
    reused: Mapping[str, ReusedImage] = {}
    if Stage.BUILD in options.stages:
        local_images = _fetch_missing_bases(plan, project, engine, context, record)
        plan = skip_without_parent(plan, project, local_images)
        plan = decide_plan(plan, project, local_images, options)
        if target and not options.fresh:
            from rlimages.release.reuse import find_reusable

            plan, reused = find_reusable(plan, target.connections[0], project)
        if plan.steps_with(Action.BUILD):
            engine.version()  # raises if no engine answers
        plan = add_host_files(plan, project, options, replace(context, note=record))
        plan = set_creation_date(plan, int(time.time()))
        if options.stages == (Stage.BUILD,) and len(plan.steps_with(Action.REUSE)) == len(plan.steps):
            notes += engine.remove_orphans()
            report = _up_to_date_report(plan, folder, options, notes, time.monotonic() - started)
            write_report(folder, report)
            return folder, report

    # Build and check.
    from rlimages.run.scheduler import run_plan
    from rlimages.run.stages import StageContext

    budget = _resource_budget(project, plan, engine, options, context)
    if Stage.BUILD in options.stages and plan.steps_with(Action.BUILD) and budget.free_disk() is None:
        record("the engine's data is not on this machine, so its disk is not watched")
    upload_early: Callable[[CellReport], None] | None = None
    if target:
        from rlimages.release.publish import early_uploader

        upload_early = early_uploader(target, project, engine, context.stop).upload
    stage_context = StageContext(
        plan=plan,
        stages=options.stages,
        roots=project.roots,
        folder=folder,
        engine=engine,
        stop=context.stop,
        budget=budget,
        cells_by_id=project.cells_by_id,
        reused={cell: image.report for cell, image in reused.items()},
        state=project.state,
        check_cache=None if options.fresh else project.state.check_cache,
    )
    report = run_plan(stage_context, command=options.command, notes=notes, on_passed=upload_early, on_event=on_event)

    # Publish. The report of the builds and checks is written also if that fails.
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
                allow_older=options.allow_older,
                context=context,
                on_event=on_event,
            )
    finally:
        write_report(folder, report)
    return folder, report


def _fetch_missing_bases(
    plan: BuildPlan, project: Project, engine: DockerEngine, context: RunContext, record: Callable[[str], None]
) -> LocalImages:
    """Fetch the Debian base images of `plan` that are neither locked nor in the local store.

    Return the local images after that. `record` gets a sentence about each image that was fetched or is unavailable.
    """
    local_images = engine.local_images()
    missing = missing_bases(plan, project, local_images)
    for reference in missing:
        from rlimages.build.base_images import ensure_base

        context.note(f"base {reference}: fetching it, which takes a minute")
        base = ensure_base(reference)
        record(f"base {base.reference}: {base.origin}, {base.detail}")
    return engine.local_images() if missing else local_images


def _up_to_date_report(
    plan: BuildPlan, folder: Path, options: RunOptions, notes: Sequence[str], seconds: float
) -> RunReport:
    """Return the report of a run that built nothing, because the images of all steps of `plan` are up to date.

    `folder` is the folder of the run, and `seconds` its duration. `notes` become the notes of the report.
    """
    builds = tuple(reused_result(step) for step in plan.steps)
    return RunReport(
        run=folder.name,
        command=options.command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        cells=tuple(CellReport(cell=build.cell, build=build, image=build.image) for build in builds),
        notes=tuple(notes),
    )


def _resource_budget(
    project: Project, plan: BuildPlan, engine: DockerEngine, options: RunOptions, context: RunContext
) -> "ResourceBudget":
    """Return the resource budget (memory and disk) that the builds and checks of a run share.

    Memory is limited only if `options` has no number of jobs. To free disk, images of earlier builds that have no name
    and that `plan` does not use are removed, then build cache.
    """
    from rlimages.build.resources import ResourceBudget
    from rlimages.plan.history import read_history

    planned_images = frozenset(step.image_id for step in plan.steps)
    data_folder = cache(engine.data_folder)

    def free_engine_disk() -> int | None:
        folder = data_folder()
        return free_disk(folder) if folder else None

    return ResourceBudget(
        memory=None if options.jobs else read_machine().memory,
        disk_floor=options.disk_floor,
        free_disk=free_engine_disk,
        cleanups=(
            lambda _wanted: engine.remove_dangling(read_history(project.state).images() - planned_images),
            engine.prune_build_cache,
        ),
        stop=context.stop,
    )
