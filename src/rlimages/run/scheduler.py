"""Run the steps of a plan in parallel: parents before children, and the longest chain of builds first."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from heapq import heappop, heappush

from rlimages.plan.events import Event, EventReporter
from rlimages.plan.planner import longest_first
from rlimages.plan.results import BuildResult, CellReport, Outcome, PublishResult, RunReport, SmokeResult
from rlimages.plan.step import Action, BuildStep, Stage
from rlimages.run.stages import StageContext, run_stages, skipped_build

_POLL_SECONDS = 0.2
"""Longest time that the main thread waits at once: Python runs signal handlers only between two waits."""


def run_plan(
    context: StageContext,
    *,
    command: str = "",
    notes: Sequence[str] = (),
    on_passed: Callable[[CellReport], None] | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> RunReport:
    """Build and check all cells of `context.plan`, `jobs` of the plan at the same time. Return the report of all cells.

    A cell that fails stops the cells that extend it, and no others. When `context.stop` is set, running builds and
    checks are ended, and the report is still returned. `on_passed` is called with the report of each cell that passed,
    for one cell at a time, while other cells are built; the run waits for its end. `on_event` is called with each
    progress event. `command` and `notes` become part of the report. Containers and unnamed images of earlier runs are
    removed first, with a note about each.

    Raises `ToolError`, before anything is built, if no engine answers.
    """
    started = time.monotonic()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    plan, engine, history = context.plan, context.engine, context.history
    removed = [*engine.remove_orphans(), *engine.remove_dangling(history.images() - context.planned_images)]
    reports = _run_steps(context, EventReporter(on_event, len(plan.steps)), on_passed)
    return RunReport(
        run=context.folder.name,
        command=command,
        started=date,
        seconds=time.monotonic() - started,
        cells=tuple(reports[step.cell.id] for step in plan.steps),
        notes=(*notes, *([history.note] if history.note else []), *removed, *context.budget.notes),
    )


def _run_steps(
    context: StageContext, reporter: EventReporter, on_passed: Callable[[CellReport], None] | None
) -> Mapping[str, CellReport]:
    """Run each step of the plan in a worker thread as soon as its parents have ended. Return cell id -> report.

    `reporter` gets the progress events. `on_passed`, if not None, is called in a thread of its own with the report of
    each cell that passed, except for cells whose image is reused from the registry.
    """
    plan = context.plan
    steps = {step.cell.id: step for step in plan.steps}
    sorter = TopologicalSorter({cell: [need for need in step.needs if need in steps] for cell, step in steps.items()})
    sorter.prepare()
    rank = {cell: number for number, cell in enumerate(longest_first(plan.steps, context.history))}
    queue: list[tuple[int, str]] = []
    running: dict[Future[CellReport], str] = {}
    reports: dict[str, CellReport] = {}
    handovers: list[Future[None]] = []
    with (
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="passed") as passed_worker,
        ThreadPoolExecutor(max_workers=plan.jobs, thread_name_prefix="cell") as cell_workers,
    ):
        try:
            while sorter.is_active():
                for cell in sorter.get_ready():
                    heappush(queue, (rank[cell], cell))
                while queue and len(running) < plan.jobs:
                    _, cell = heappop(queue)
                    running[cell_workers.submit(_run_step, steps[cell], reports, context, reporter)] = cell
                finished, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell = running.pop(future)
                    reports[cell] = future.result()
                    sorter.done(cell)
                    if on_passed and cell not in context.reused and reports[cell].outcome is Outcome.PASSED:
                        handovers.append(passed_worker.submit(on_passed, reports[cell]))
            while wait(handovers, timeout=_POLL_SECONDS).not_done:
                continue
        except BaseException:  # An error in this program. Leaving the `with` block waits for the workers: end them.
            context.stop.set()
            raise
    for handover in handovers:
        handover.result()
    return reports


def _run_step(
    step: BuildStep, reports: Mapping[str, CellReport], context: StageContext, reporter: EventReporter
) -> CellReport:
    """Take the cell of `step` through the stages, or skip it. Return its report; failures are not raised.

    `reports` maps the ids of cells that have ended, the parent of this cell included, to their reports.
    """
    reason = _reason_to_skip(step, reports, interrupted=context.stop.is_set())
    if reason:
        reporter.report(step.cell.id, Stage.BUILD, Outcome.SKIPPED, reason, 0.0)
        report = CellReport(cell=step.cell, build=skipped_build(step.cell, reason))
    else:
        report = run_stages(step, context, reporter)
    reporter.count_finished()
    return report


def _reason_to_skip(step: BuildStep, reports: Mapping[str, CellReport], *, interrupted: bool) -> str:
    """Return a clause that says why the cell of `step` is skipped; empty if it is not skipped.

    `reports` maps the ids of cells that have ended to their reports. `interrupted` means that the user asked to stop.
    """
    if step.action is Action.SKIP:
        return step.reason
    for need in step.needs:
        if need in reports and reports[need].outcome is not Outcome.PASSED:
            return f"its parent {need} {_failure_summary(reports[need])}"
    return "interrupted before it started" if interrupted else ""


def _failure_summary(report: CellReport) -> str:
    """Return outcome and reason of a cell that did not pass, such as `failed: compile` or `was skipped: …`."""
    results: list[BuildResult | SmokeResult | PublishResult] = [*report.smoke, *report.publish]
    if report.build:
        results.insert(0, report.build)
    reason = next((result.reason for result in results if result.outcome is report.outcome), "")
    return f"{'was skipped' if report.outcome is Outcome.SKIPPED else report.outcome}: {reason}"
