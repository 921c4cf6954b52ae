"""Results of builds, checks and releases as values."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rlimages.engine.protocol import BuiltImage
from rlimages.matrix.cell import Cell


class Outcome(StrEnum):
    """How a stage ended. Only `passed` is a success; `not applicable` and `skipped` are counted apart."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_APPLICABLE = "not applicable"


class FailureKind(StrEnum):
    """Why a build broke, as far as its log tells."""

    NETWORK = "network"
    REGISTRY = "registry"
    AUTH = "auth"
    DISK_FULL = "disk full"
    OUT_OF_MEMORY = "out of memory"
    DEPENDENCY_CONFLICT = "dependency conflict"
    COMPILE = "compile"
    TEST = "test"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The class of a failure and the log lines that show it."""

    kind: FailureKind
    evidence: tuple[str, ...]
    attempts: int = 1
    """How often it was tried; more than one only for what may pass by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """How the build of one cell ended."""

    cell: Cell
    outcome: Outcome
    reason: str
    """One sentence; empty when it passed and there is nothing to say."""
    seconds: float
    log: str
    """Path of the log file; empty when nothing ran."""
    image: BuiltImage | None = None
    failure: Failure | None = None
    worked: float = 0.0
    """Seconds of the attempt that passed, where a step was really run; 0 where all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeResult:
    """How one check inside one image ended."""

    cell: Cell
    check: str
    """Name of the program without `check_` and `.py`."""
    outcome: Outcome
    reason: str
    """The last line that the check printed."""
    seconds: float
    log: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishResult:
    """How the push of one cell under one tag ended."""

    cell: Cell
    reference: str
    """`registry/repository:tag`."""
    outcome: Outcome
    reason: str
    digest: str
    """The manifest digest that the registry answered with afterwards; empty unless passed."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementResult:
    """How one demand of a place on one image ended, before its tags could move."""

    cell: Cell
    demand: str
    """`scan`, `signature` or `contents`."""
    place: str
    outcome: Outcome
    reason: str
    """What was found, or who signed."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CellReport:
    """All that happened to one cell."""

    cell: Cell
    build: BuildResult | None = None
    smoke: tuple[SmokeResult, ...] = ()
    publish: tuple[PublishResult, ...] = ()
    demands: tuple[RequirementResult, ...] = ()
    image: BuiltImage | None = None
    """What was built, checked and published; None where there is none."""

    @property
    def outcome(self) -> Outcome:
        """The worst of its stages; a cell that was never tried is skipped."""
        built = [self.build.outcome] if self.build else []
        checks, pushes = [check.outcome for check in self.smoke], [push.outcome for push in self.publish]
        return worst([*built, *checks, *(demand.outcome for demand in self.demands), *pushes])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """All that happened in one run."""

    run: str
    """Name of the run: start time and process, unique on this machine."""
    command: str
    started: str
    """ISO 8601, UTC."""
    seconds: float
    cells: tuple[CellReport, ...]
    notes: tuple[str, ...] = field(default=())
    """What was removed, prepared or overridden on the way."""

    @property
    def outcome(self) -> Outcome:
        """The worst of its cells."""
        return worst(cell.outcome for cell in self.cells)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Failed before skipped before passed; with nothing but `not applicable`, or nothing at all, skipped."""
    seen = set(outcomes)
    for outcome in (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED):
        if outcome in seen:
            return outcome
    return Outcome.SKIPPED


Result = BuildResult | SmokeResult | RequirementResult | PublishResult


def tally(results: Iterable[Result | CellReport]) -> str:
    """`5 passed, 1 not applicable`: each outcome apart, the worst first."""
    counts = Counter(result.outcome for result in results)
    order = (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED, Outcome.NOT_APPLICABLE)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if counts[outcome]) or "nothing"
