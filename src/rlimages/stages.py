"""Take one cell as far as it goes: build, smoke. What one stage leaves undone, the next does not begin."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from rlimages.build import build
from rlimages.cell import Cell
from rlimages.engine import Engine, LocalImage
from rlimages.errors import FactoryError
from rlimages.plan import Action, BuildStep
from rlimages.report import tally
from rlimages.results import BuildResult, CellReport, Outcome
from rlimages.shell import Stop
from rlimages.smoke import TIMEOUT, find_checks, smoke


class Stage(StrEnum):
    """What can be done to a cell, in this order."""

    BUILD = "build"
    SMOKE = "smoke"
    PUBLISH = "publish"


Tell = Callable[[Stage, Outcome | None, str, float], None]
"""Hears of each move: the stage, None or how it ended, what is being done or why it ended so, seconds so far."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
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
    check_timeout: float = TIMEOUT
    stop: Stop = field(default_factory=Stop)

    def logs(self, cell: Cell) -> Path:
        """The folder of a cell's logs."""
        return self.folder / "logs" / cell.id


def take(step: BuildStep, place: Workplace, tell: Tell) -> CellReport:
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
        image = _image(step, report, place.engine)
        if image is None:
            return replace(report, build=unbuilt(step.cell, f"there is no local image {step.image}; build it first"))
        report = replace(report, image=image.image)
        if Stage.SMOKE in place.stages or Stage.PUBLISH in place.stages:
            report = _smoke(step, report, image, place, tell)
    except FactoryError as error:  # the engine went away: an answer about this cell, others may have been luckier
        built = report.build or unbuilt(step.cell, "")
        return replace(report, build=replace(built, outcome=Outcome.FAILED, reason=str(error)))
    return report


def unbuilt(cell: Cell, reason: str) -> BuildResult:
    """The result of a build that never began."""
    return BuildResult(cell=cell, outcome=Outcome.SKIPPED, reason=reason, seconds=0.0, log="")


def _build(step: BuildStep, report: CellReport, place: Workplace, tell: Tell) -> CellReport:
    clock = _Clock(Stage.BUILD, tell)
    if step.action is not Action.BUILD:
        result = _kept(step, place.engine)
        clock.ended(result.outcome, result.reason)
        return replace(report, build=result)
    result = build(step, place.engine, place.logs(step.cell), root=place.root, stop=place.stop, on_progress=clock.moved)
    clock.ended(result.outcome, result.reason)
    return replace(report, build=result)


def _kept(step: BuildStep, engine: Engine) -> BuildResult:
    """An image that need not be built, under its name."""
    if step.action is Action.RETAG:
        engine.name(step.held, step.image)
    found = engine.inspect(step.held)
    return BuildResult(
        cell=step.cell,
        outcome=Outcome.PASSED if found else Outcome.FAILED,
        reason=step.reason if found else f"the image {step.held} was removed just now; run this again",
        seconds=0.0,
        log="",
        image=found.image if found else None,
    )


def _image(step: BuildStep, report: CellReport, engine: Engine) -> LocalImage | None:
    """What this run built, and where it built nothing, what the local store has by the cell's name."""
    built = report.build.image if report.build else None
    return engine.inspect(built.id if built else step.image)


def _smoke(step: BuildStep, report: CellReport, image: LocalImage, place: Workplace, tell: Tell) -> CellReport:
    clock = _Clock(Stage.SMOKE, tell)
    checks = find_checks((place.root, *place.parents), step.cell, place.matrix)
    results = smoke(
        step.cell,
        image,
        checks,
        place.engine,
        place.logs(step.cell),
        stop=place.stop,
        timeout=place.check_timeout,
        proofs=place.proofs,
        on_progress=clock.moved,
    )
    report = replace(report, smoke=results)
    failed = [f"{result.check}: {result.reason}" for result in results if result.outcome is Outcome.FAILED]
    clock.ended(report.outcome, failed[0] if failed else tally(results))
    return report


class _Clock:
    """Tells what a stage does and how long it has taken."""

    def __init__(self, stage: Stage, tell: Tell) -> None:
        self._stage = stage
        self._tell = tell
        self._began = time.monotonic()
        self.moved("")

    def moved(self, detail: str) -> None:
        self._tell(self._stage, None, detail, time.monotonic() - self._began)

    def ended(self, outcome: Outcome, reason: str) -> None:
        self._tell(self._stage, outcome, reason, time.monotonic() - self._began)
