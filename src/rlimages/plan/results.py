"""Results of builds, checks and releases as values."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rlimages.engine.protocol import BuiltImage
from rlimages.matrix.cell import Cell


class Outcome(StrEnum):
    """The outcome of a stage. Only `passed` is a success; `skipped` and `not applicable` are counted separately."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_APPLICABLE = "not applicable"


class FailureKind(StrEnum):
    """The class of a build failure, as far as the log shows it."""

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
    """Number of attempts. Only failures that may not occur again, such as network errors, are retried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """The result of building one cell."""

    cell: Cell
    outcome: Outcome
    reason: str
    """One sentence about a failure, a skip or a reused image; empty for a build that passed."""
    seconds: float
    log: str
    """Path of the log file; empty if nothing was run."""
    image: BuiltImage | None = None
    failure: Failure | None = None
    work_seconds: float = 0.0
    """Seconds of the successful attempt if it executed a `RUN`; 0 if all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeResult:
    """The result of one check in one image."""

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
    """The result of publishing one cell under one tag."""

    cell: Cell
    reference: str
    """`registry/repository:tag`."""
    outcome: Outcome
    reason: str
    digest: str
    """Manifest digest that the registry gave after the push; empty unless it passed."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementResult:
    """The result of one requirement of a target for one image, checked before its tags are moved."""

    cell: Cell
    requirement: str
    """`scan`, `signature` or `contents`."""
    registry: str
    outcome: Outcome
    reason: str
    """The findings of the scan, or the signer."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CellReport:
    """The results of one cell in a run."""

    cell: Cell
    build: BuildResult | None = None
    smoke: tuple[SmokeResult, ...] = ()
    publish: tuple[PublishResult, ...] = ()
    requirements: tuple[RequirementResult, ...] = ()
    image: BuiltImage | None = None
    """The image that was built or reused; None if there is none."""

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of its stages; skipped if there is none."""
        built = [self.build.outcome] if self.build else []
        checks, pushes = [check.outcome for check in self.smoke], [push.outcome for push in self.publish]
        return worst([*built, *checks, *(result.outcome for result in self.requirements), *pushes])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """The results of one run."""

    run: str
    """Name of the run, from its start time and process id."""
    command: str
    started: str
    """ISO 8601, UTC."""
    seconds: float
    cells: tuple[CellReport, ...]
    notes: tuple[str, ...] = field(default=())
    """One sentence for each thing that was removed, prepared or overridden."""

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of its cells."""
        return worst(cell.outcome for cell in self.cells)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst outcome: failed, then skipped, then passed.

    Skipped is returned for no outcomes at all, and if all are `not applicable`.
    """
    seen = set(outcomes)
    for outcome in (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED):
        if outcome in seen:
            return outcome
    return Outcome.SKIPPED


Result = BuildResult | SmokeResult | RequirementResult | PublishResult


def tally(results: Iterable[Result | CellReport]) -> str:
    """Return the number of each outcome, the worst first: `5 passed, 1 not applicable`."""
    counts = Counter(result.outcome for result in results)
    order = (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED, Outcome.NOT_APPLICABLE)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if counts[outcome]) or "nothing"
