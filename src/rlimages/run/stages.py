"""Take one cell through the stages of a run: build, check, record."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rlimages.build.builder import build_cell
from rlimages.build.resources import DiskFullError, ResourceBudget, expected_disk
from rlimages.checks.smoke import CHECK_TIMEOUT, run_checks
from rlimages.checks.suite import find_checks
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.errors import FactoryError
from rlimages.matrix.cell import Cell
from rlimages.plan.decisions import reused_result
from rlimages.plan.history import History, Measurement, read_history, record_measurements
from rlimages.plan.results import BuildResult, CellReport, Failure, FailureKind, Outcome, SmokeResult, tally
from rlimages.plan.step import Action, BuildStep, Stage
from rlimages.project.state import StateFolder
from rlimages.system.process import Stop

_GONE_WELL = (Outcome.PASSED, Outcome.NOT_APPLICABLE)
ReportStage = Callable[[Stage, Outcome | None, str, float], None]
"""Hears of each move: the stage, None or how it ended, what is being done or why it ended so, seconds so far."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What all cells of a run share."""

    root: Path
    """The project, and the context of every build."""
    parents: tuple[Path, ...] = ()
    """The projects whose cells it extends: their checks are run too."""
    folder: Path
    """The run's folder."""
    engine: Engine
    stages: Collection[Stage] = tuple(Stage)
    """Nothing is published that was not smoked: PUBLISH, which comes after all cells, brings SMOKE with it."""
    matrix: Mapping[str, Cell] = field(default_factory=dict)
    """All cells by id, for those that extend another."""
    proofs: Path | None = None
    """Where passed checks are remembered by image and program; None runs every check."""
    elsewhere: Mapping[str, CellReport] = field(default_factory=dict)
    """What need not be done, because a registry has it checked already; by cell."""
    check_timeout: float = CHECK_TIMEOUT
    stop: Stop = field(default_factory=Stop)
    booking: ResourceBudget = field(default_factory=ResourceBudget)
    """Lets builds and checks begin when there is room for them."""
    state: StateFolder | None = None
    """The folder `.rlimages`, where it is written down what each cell took; None writes nothing down."""
    past: History = field(default_factory=History)
    """What was written down before."""
    held: frozenset[str] = frozenset()
    """Ids of the images that cells keep, perhaps under no name yet."""

    def logs(self, cell: Cell) -> Path:
        """The folder of a cell's logs."""
        return self.folder / "logs" / cell.id


def run_stages(step: BuildStep, place: StageContext, tell: ReportStage) -> CellReport:
    """Take one cell through the stages until one of them is not passed. A failure is in the report, never raised."""
    if step.cell.id in place.elsewhere:
        tell(Stage.BUILD, Outcome.PASSED, step.reason, 0.0)
        return place.elsewhere[step.cell.id]
    report = CellReport(cell=step.cell)
    try:
        if Stage.BUILD in place.stages:
            report = _build(step, report, place, tell)
            if report.outcome is not Outcome.PASSED:
                return report
        if set(place.stages) == {Stage.BUILD}:
            return replace(report, image=report.build.image if report.build else None)
        image = _image(step, report, place.engine)
        if image is None:
            return replace(
                report, build=skipped_build(step.cell, f"there is no local image {step.request.tag}; build it first")
            )
        report = replace(report, image=image.image)
        if Stage.SMOKE in place.stages or Stage.PUBLISH in place.stages:
            report = _check(step, report, image, place, tell)
    except FactoryError as error:  # the engine went away: an answer about this cell, others may have been luckier
        built = report.build or skipped_build(step.cell, "")
        return replace(report, build=replace(built, outcome=Outcome.FAILED, reason=str(error)))
    return report


def skipped_build(cell: Cell, reason: str) -> BuildResult:
    """The result of a build that never began."""
    return BuildResult(cell=cell, outcome=Outcome.SKIPPED, reason=reason, seconds=0.0, log="")


def _build(step: BuildStep, report: CellReport, place: StageContext, tell: ReportStage) -> CellReport:
    clock = _Clock(Stage.BUILD, tell)
    if step.action is not Action.BUILD:
        result = _reuse(step, place.engine)
        clock.ended(result.outcome, result.reason)
        return replace(report, build=result)
    size = expected_disk(place.past.estimate_size(step.cell))
    try:
        with place.booking.reserve_build(size, clock.moved):
            result = build_cell(
                step, place.engine, place.logs(step.cell), root=place.root, stop=place.stop, on_progress=clock.moved
            )
            if result.image:
                _record_build(step.cell, result, place)
    except DiskFullError as error:
        full = Failure(kind=FailureKind.DISK_FULL, evidence=())
        result = replace(skipped_build(step.cell, str(error)), outcome=Outcome.FAILED, failure=full)
    clock.ended(result.outcome, result.reason)
    return replace(report, build=result)


def _record_build(cell: Cell, result: BuildResult, place: StageContext) -> None:
    """Remember what it took and which image it made; of those made before, remove what nobody can name any more."""
    if place.state is None or result.image is None:
        return
    made = (
        Measurement(seconds=result.work_seconds, size=result.image.size, date=_now()) if result.work_seconds else None
    )
    with suppress(OSError):  # a history that can't be written costs a good estimate, not a good image
        record_measurements(place.state, cell, build=made, image=result.image.id)
    place.booking.notes += place.engine.remove_dangling(read_history(place.state).images() - place.held)


def _record_checks(cell: Cell, results: tuple[SmokeResult, ...], place: StageContext) -> None:
    if place.state is not None and all(result.outcome in _GONE_WELL and result.log for result in results):
        with suppress(OSError):
            record_measurements(
                place.state, cell, checks=Measurement(seconds=sum(r.seconds for r in results), date=_now())
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reuse(step: BuildStep, engine: Engine) -> BuildResult:
    """An image that need not be built, under its name. One that has its name already was seen just now."""
    result = reused_result(step)
    if step.action is Action.RETAG:
        engine.tag(step.image_id, step.request.tag)
        if engine.inspect(step.image_id) is None:
            reason = f"the image {step.image_id} was removed just now; run this again"
            return replace(result, outcome=Outcome.FAILED, reason=reason, image=None)
    return result


def _image(step: BuildStep, report: CellReport, engine: Engine) -> InspectedImage | None:
    """What this run built, and where it built nothing, what the local store has by the cell's name."""
    built = report.build.image if report.build else None
    return engine.inspect(built.id if built else step.request.tag)


def _check(
    step: BuildStep, report: CellReport, image: InspectedImage, place: StageContext, tell: ReportStage
) -> CellReport:
    clock = _Clock(Stage.SMOKE, tell)
    checks = find_checks((place.root, *place.parents), step.cell, place.matrix)
    with place.booking.reserve_check(clock.moved):
        results = run_checks(
            step.cell,
            image,
            checks,
            place.engine,
            place.logs(step.cell),
            stop=place.stop,
            timeout=place.check_timeout,
            cache=place.proofs,
            on_progress=clock.moved,
        )
    _record_checks(step.cell, results, place)
    report = replace(report, smoke=results)
    failed = [f"{result.check}: {result.reason}" for result in results if result.outcome is Outcome.FAILED]
    clock.ended(report.outcome, failed[0] if failed else tally(results))
    return report


class _Clock:
    """Tells what a stage does and how long it has taken."""

    def __init__(self, stage: Stage, tell: ReportStage) -> None:
        self._stage = stage
        self._tell = tell
        self._began = time.monotonic()
        self.moved("")

    def moved(self, detail: str) -> None:
        self._tell(self._stage, None, detail, time.monotonic() - self._began)

    def ended(self, outcome: Outcome, reason: str) -> None:
        self._tell(self._stage, outcome, reason, time.monotonic() - self._began)
