"""Walk a plan in parallel: parents before children, the longest remaining work first."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from rlimages.build.resources import ResourceBudget
from rlimages.checks.smoke import CHECK_TIMEOUT
from rlimages.engine.protocol import Engine
from rlimages.matrix.cell import Cell
from rlimages.plan.events import Event
from rlimages.plan.history import History, read_history
from rlimages.plan.planner import longest_first
from rlimages.plan.results import BuildResult, CellReport, Outcome, PublishResult, RunReport, SmokeResult
from rlimages.plan.step import Action, BuildPlan, BuildStep, Stage
from rlimages.project.state import StateFolder
from rlimages.run.stages import ReportStage, StageContext, run_stages, skipped_build
from rlimages.system.process import Stop

_POLL_SECONDS = 0.2
"""Seconds that the main thread waits at a time: Python hears a signal only between two waits."""


def run_plan(
    plan: BuildPlan,
    *,
    root: Path,
    parents: tuple[Path, ...] = (),
    folder: Path,
    engine: Engine,
    stages: Collection[Stage] = tuple(Stage),
    matrix: Mapping[str, Cell] = MappingProxyType({}),
    proofs: Path | None = None,
    elsewhere: Mapping[str, CellReport] = MappingProxyType({}),
    check_timeout: float = CHECK_TIMEOUT,
    booking: ResourceBudget | None = None,
    state: StateFolder | None = None,
    on_passed: Callable[[CellReport], None] | None = None,
    command: str = "",
    notes: Sequence[str] = (),
    stop: Stop | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> RunReport:
    """Take each cell of the plan as far as it goes, `plan.jobs` at a time, and report what happened to all of them.

    The words are those of `stages.Workplace`; `folder` is named as the run is, and logs go to its `logs/<cell>/`.
    `on_passed` gets each cell that passed here, one at a time, while others are built; the run waits for it to return.
    When `stop` is set, all that runs ends, and the report still comes. What an earlier run left behind is removed first
    and noted. Raises `ToolError`, before anything is done, when no engine answers.
    """
    began = time.monotonic()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    past = read_history(state) if state else History()
    held = frozenset(step.image_id for step in plan.steps)
    removed = [*engine.remove_orphans(), *engine.remove_dangling(past.images() - held)]
    booking = booking or ResourceBudget()
    place = StageContext(
        root=root,
        parents=parents,
        folder=folder,
        engine=engine,
        stages=stages,
        matrix={**{step.cell.id: step.cell for step in plan.steps}, **matrix},
        proofs=proofs,
        elsewhere=elsewhere,
        check_timeout=check_timeout,
        stop=stop or Stop(),
        booking=booking,
        state=state,
        past=past,
        held=held,
    )
    reports = _walk(plan, place, _EventReporter(len(plan.steps), on_event), on_passed)
    return RunReport(
        run=folder.name,
        command=command,
        started=started,
        seconds=time.monotonic() - began,
        cells=tuple(reports[step.cell.id] for step in plan.steps),
        notes=(*notes, *([past.note] if past.note else []), *removed, *booking.notes),
    )


def _walk(
    plan: BuildPlan, place: StageContext, herald: "_EventReporter", on_passed: Callable[[CellReport], None] | None
) -> dict[str, CellReport]:
    """Give each cell whose parents are through to the next free worker, the longest first."""
    steps = {step.cell.id: step for step in plan.steps}
    order = TopologicalSorter({name: [need for need in step.needs if need in steps] for name, step in steps.items()})
    order.prepare()
    rank = {name: number for number, name in enumerate(longest_first(plan.steps, place.past))}
    ready: list[tuple[int, str]] = []
    reports: dict[str, CellReport] = {}
    running: dict[Future[CellReport], str] = {}
    passed: list[Future[None]] = []
    with (
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="passed") as aside,
        ThreadPoolExecutor(max_workers=plan.jobs, thread_name_prefix="cell") as pool,
    ):
        try:
            while order.is_active():
                for name in order.get_ready():
                    heappush(ready, (rank[name], name))
                while ready and len(running) < plan.jobs:
                    _, name = heappop(ready)
                    running[pool.submit(_run_cell, steps[name], reports, place, herald)] = name
                ended, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in ended:
                    name = running.pop(future)
                    reports[name] = future.result()
                    order.done(name)
                    if on_passed and name not in place.elsewhere and reports[name].outcome is Outcome.PASSED:
                        passed.append(aside.submit(on_passed, reports[name]))
            while wait(passed, timeout=_POLL_SECONDS).not_done:
                continue
        except BaseException:  # a defect of ours: the workers must not outlive it
            place.stop.set()
            raise
    for done in passed:
        done.result()
    return reports


def _run_cell(
    step: BuildStep, reports: Mapping[str, CellReport], place: StageContext, herald: "_EventReporter"
) -> CellReport:
    reason = _reason_to_skip(step, reports, interrupted=place.stop.is_set())
    tell = herald.of(step.cell.id)
    if reason:
        tell(Stage.BUILD, Outcome.SKIPPED, reason, 0.0)
        report = CellReport(cell=step.cell, build=skipped_build(step.cell, reason))
    else:
        report = run_stages(step, place, tell)
    herald.count()
    return report


def _reason_to_skip(step: BuildStep, reports: Mapping[str, CellReport], *, interrupted: bool) -> str:
    """One sentence, or nothing when there is no reason."""
    if step.action is Action.SKIP:
        return step.reason
    for need in step.needs:
        if need in reports and reports[need].outcome is not Outcome.PASSED:
            return f"its parent {need} {failure_reason(reports[need])}"
    return "interrupted before it began" if interrupted else ""


def failure_reason(report: CellReport) -> str:
    """How a cell that did not pass ended, in a few words: `failed: compile`, `was skipped: …`."""
    results: list[BuildResult | SmokeResult | PublishResult] = [*report.smoke, *report.publish]
    if report.build:
        results.insert(0, report.build)
    reason = next((result.reason for result in results if result.outcome is report.outcome), "")
    return f"{'was skipped' if report.outcome is Outcome.SKIPPED else report.outcome}: {reason}"


class _EventReporter:
    """Passes events on, one at a time, and counts the cells that are through."""

    def __init__(self, total: int, on_event: Callable[[Event], None]) -> None:
        self._total = total
        self._done = 0
        self._on_event = on_event
        self._lock = Lock()

    def count(self) -> None:
        with self._lock:
            self._done += 1

    def of(self, cell: str) -> ReportStage:
        """Who tells of one cell."""

        def tell(stage: Stage, outcome: Outcome | None, detail: str, seconds: float) -> None:
            with self._lock:
                self._on_event(
                    Event(
                        cell=cell,
                        stage=stage,
                        outcome=outcome,
                        detail=detail,
                        seconds=seconds,
                        done=self._done,
                        total=self._total,
                    )
                )

        return tell
