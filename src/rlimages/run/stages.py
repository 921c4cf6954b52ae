"""Take one cell through the stages of a run: build its image, run the checks in it, and record their durations."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from rlimages.build.builder import build_cell
from rlimages.build.resources import DiskFullError, ResourceBudget, expected_disk
from rlimages.checks.smoke import CHECK_TIMEOUT, run_checks
from rlimages.checks.suite import find_checks
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.errors import FactoryError
from rlimages.matrix.cell import Cell
from rlimages.plan.decisions import reused_result
from rlimages.plan.events import EventReporter
from rlimages.plan.history import History, Measurement, read_history, record_measurements
from rlimages.plan.results import BuildResult, CellReport, Failure, FailureKind, Outcome, SmokeResult, tally
from rlimages.plan.step import Action, BuildPlan, BuildStep, Stage
from rlimages.project.state import StateFolder
from rlimages.system.process import Stop


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """The plan, settings and resources that all cells of a run share."""

    plan: BuildPlan
    stages: Collection[Stage] = tuple(Stage)
    """The stages of the run. PUBLISH implies SMOKE; `release.publish` publishes after all cells were checked."""
    roots: tuple[Path, ...]
    """The project folder, which is the context of every build; then the folders of its parent projects, for checks."""
    folder: Path
    """The folder of the run, with the logs. Its name is the name of the run."""
    engine: Engine
    stop: Stop = field(default_factory=Stop)
    """When it is set, running builds and checks are ended, and no others are started."""
    budget: ResourceBudget = field(default_factory=ResourceBudget)
    """The memory and disk that builds and checks reserve before they start."""
    cells_by_id: Mapping[str, Cell] = field(default_factory=dict)
    """Cell id -> cell, for all cells of the project and its parent projects, to find the cells that a cell extends."""
    reused: Mapping[str, CellReport] = field(default_factory=dict)
    """Cell id -> report, for cells whose image is reused from the registry. They are neither built nor checked."""
    state: StateFolder | None = None
    """The state folder with the history of builds and checks; None to read and record no history."""
    check_cache: Path | None = None
    """The folder of the check cache (`checks.smoke`), which has the checks that images passed; None runs all checks."""
    check_timeout: float = CHECK_TIMEOUT
    """Time limit of each check in seconds."""

    @cached_property
    def history(self) -> History:
        """The measurements of earlier runs. The file is read at the first access, and not again."""
        return read_history(self.state) if self.state else History()

    @cached_property
    def planned_images(self) -> frozenset[str]:
        """Ids of the existing images that the plan uses. They must not be removed, even if they have no name yet."""
        return frozenset(step.image_id for step in self.plan.steps)

    def log_folder(self, cell: Cell) -> Path:
        """Return the folder for the logs of `cell`, below the folder of the run. It is not created."""
        return self.folder / "logs" / cell.id


def run_stages(step: BuildStep, context: StageContext, reporter: EventReporter) -> CellReport:
    """Build and check the cell of `step`, until a stage does not pass. Return its report; failures are not raised.

    Only stages in `context.stages` are run. `reporter` gets the progress events.
    """
    cell = step.cell
    if cell.id in context.reused:
        reporter.report(cell.id, Stage.BUILD, Outcome.PASSED, step.reason, 0.0)
        return context.reused[cell.id]
    report = CellReport(cell=cell)
    try:
        if Stage.BUILD in context.stages:
            report = replace(report, build=_build(step, context, reporter))
            if report.outcome is not Outcome.PASSED:
                return report
        if set(context.stages) == {Stage.BUILD}:
            return replace(report, image=report.build.image if report.build else None)
        image = _find_image(step, report, context.engine)
        if image is None:
            reason = f"there is no local image {step.request.tag}; build it first"
            return replace(report, build=skipped_build(cell, reason))
        report = replace(report, image=image.image)
        if Stage.SMOKE in context.stages or Stage.PUBLISH in context.stages:
            report = _check(report, image, context, reporter)
    except FactoryError as error:  # For example, the engine stopped answering. Other cells may be unaffected.
        build = report.build or skipped_build(cell, "")
        return replace(report, build=replace(build, outcome=Outcome.FAILED, reason=str(error)))
    return report


def skipped_build(cell: Cell, reason: str) -> BuildResult:
    """Return the result, with the outcome `skipped`, of a build of `cell` that was not started. `reason` says why."""
    return BuildResult(cell=cell, outcome=Outcome.SKIPPED, reason=reason, seconds=0.0, log="")


def _build(step: BuildStep, context: StageContext, reporter: EventReporter) -> BuildResult:
    """Build the image of `step` once enough memory and disk are free, or use the existing image that `step` names.

    Return the result; failures and a full disk are not raised.
    """
    stage = reporter.start_stage(step.cell.id, Stage.BUILD)
    if step.action is Action.BUILD:
        disk = expected_disk(context.history.estimate_size(step.cell))
        try:
            with context.budget.reserve_build(disk, stage.report_progress):
                result = build_cell(
                    step,
                    context.engine,
                    context.log_folder(step.cell),
                    root=context.roots[0],
                    stop=context.stop,
                    on_progress=stage.report_progress,
                )
                # Before the reserved disk is released, because this may free some.
                _record_build(step.cell, result, context)
        except DiskFullError as error:
            failure = Failure(kind=FailureKind.DISK_FULL, evidence=())
            result = replace(skipped_build(step.cell, str(error)), outcome=Outcome.FAILED, failure=failure)
    else:
        result = _use_image(step, context.engine)
    stage.report_end(result.outcome, result.reason)
    return result


def _use_image(step: BuildStep, engine: Engine) -> BuildResult:
    """Return the result of a `step` that uses an existing image. With RETAG, give the image the cell's name first.

    The result is a failure if the image was removed in the meantime.
    """
    result = reused_result(step)
    if step.action is Action.RETAG:
        engine.tag(step.image_id, step.request.tag)
        # The plan was made minutes ago, and another run may have removed the image since.
        if engine.inspect(step.image_id) is None:
            reason = f"the image {step.image_id} was removed just now; run this again"
            return replace(result, outcome=Outcome.FAILED, reason=reason, image=None)
    return result


def _find_image(step: BuildStep, report: CellReport, engine: Engine) -> InspectedImage | None:
    """Return the image in the build result of `report`; if it has none, the local image with the name in `step`.

    Return None if that image is not in the local store.
    """
    built = report.build.image if report.build else None
    return engine.inspect(built.id if built else step.request.tag)


def _check(report: CellReport, image: InspectedImage, context: StageContext, reporter: EventReporter) -> CellReport:
    """Run the checks of the cell in `image` once enough memory is free. Return `report` with their results.

    The durations of the checks are added to the history.
    """
    cell = report.cell
    stage = reporter.start_stage(cell.id, Stage.SMOKE)
    checks = find_checks(context.roots, cell, context.cells_by_id)
    with context.budget.reserve_check(stage.report_progress):
        results = run_checks(
            cell,
            image,
            checks,
            context.engine,
            context.log_folder(cell),
            stop=context.stop,
            timeout=context.check_timeout,
            cache=context.check_cache,
            on_progress=stage.report_progress,
        )
    _record_checks(cell, results, context)
    report = replace(report, smoke=results)
    failures = [f"{result.check}: {result.reason}" for result in results if result.outcome is Outcome.FAILED]
    stage.report_end(report.outcome, failures[0] if failures else tally(results))
    return report


def _record_build(cell: Cell, result: BuildResult, context: StageContext) -> None:
    """Add the successful build `result` to the history, and remove images of earlier builds that have no name now.

    `context.budget.notes` gets a sentence about each removed image. A build that failed changes nothing.
    """
    if context.state is None or result.image is None:
        return
    measurement = None
    if result.work_seconds:
        measurement = Measurement(seconds=result.work_seconds, size=result.image.size, date=_now())
    with suppress(OSError):  # Without the history, later estimates are missing; the image is good all the same.
        record_measurements(context.state, cell, build=measurement, image=result.image.id)
    removable = read_history(context.state).images() - context.planned_images
    context.budget.notes += context.engine.remove_dangling(removable)


def _record_checks(cell: Cell, results: tuple[SmokeResult, ...], context: StageContext) -> None:
    """Add the sum of the durations of `results` to the history, if all checks were run (not cached) and none failed."""
    succeeded = (Outcome.PASSED, Outcome.NOT_APPLICABLE)
    if context.state is not None and all(result.outcome in succeeded and result.log for result in results):
        seconds = sum(result.seconds for result in results)
        with suppress(OSError):
            record_measurements(context.state, cell, checks=Measurement(seconds=seconds, date=_now()))


def _now() -> str:
    """Return the current date and time: ISO 8601, UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
