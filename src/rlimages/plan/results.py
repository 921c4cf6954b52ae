"""The results of builds, checks, target requirements and pushes, and the reports of cells and runs that hold them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rlimages.engine.protocol import BuiltImage
from rlimages.matrix.cell import Cell


class Outcome(StrEnum):
    """The outcome of a build, a check, a requirement or a push, and of a whole cell or run.

    Only `passed` is a success; `skipped` and `not applicable` are counted separately.
    """

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_APPLICABLE = "not applicable"


class FailureKind(StrEnum):
    """The class of a build failure, found in the lines of its log; `unknown` if no line shows the cause."""

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
    """Why a build failed: the kind of the failure, and the log lines that show it."""

    kind: FailureKind
    evidence: tuple[str, ...]
    """The log lines that show the cause, shortened; empty if the build was not started or was interrupted."""
    attempts: int = 1
    """Number of attempts that failed. Only transient failures, such as network errors, are tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """The result of building one cell."""

    cell: Cell
    outcome: Outcome
    reason: str
    """Why the build failed or was skipped, or why an image is reused; empty if it passed at the first attempt."""
    seconds: float
    """Duration of all attempts and of the waits between them."""
    log: str
    """Path of the log file; empty if no build was started."""
    image: BuiltImage | None = None
    """The image that was built or reused; None if the build failed or was skipped."""
    failure: Failure | None = None
    """The class of the failure; None if the build did not fail."""
    work_seconds: float = 0.0
    """Seconds of the successful attempt if at least one `RUN` was executed; 0 if all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeResult:
    """The result of one check in one image."""

    cell: Cell
    check: str
    """Name of the check: its program's file name without `check_` and `.py`."""
    outcome: Outcome
    reason: str
    """The last line that the check printed, or why it has no result."""
    seconds: float
    log: str
    """Path of the log file; empty if the result is from the check cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishResult:
    """The result of publishing the image of one cell under one tag in one registry."""

    cell: Cell
    reference: str
    """The published name: `registry/repository:tag`."""
    outcome: Outcome
    reason: str
    """One sentence about the outcome."""
    digest: str
    """Manifest digest that the registry returned after the push; empty unless the push passed."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementResult:
    """The result of checking one requirement of a target for one cell's image, before the image's tags are moved."""

    cell: Cell
    requirement: str
    """Name of the requirement: `scan`, `signature` or `contents`."""
    registry: str
    """Name of the registry in which the requirement was checked."""
    outcome: Outcome
    reason: str
    """The result of the check in words, such as the scan's findings or the signer."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CellReport:
    """All results of one cell in a run."""

    cell: Cell
    build: BuildResult | None = None
    """None if the run has no build stage and the cell's image exists."""
    smoke: tuple[SmokeResult, ...] = ()
    """One result for each check of the cell."""
    publish: tuple[PublishResult, ...] = ()
    """One result for each tag in each registry of the target."""
    requirements: tuple[RequirementResult, ...] = ()
    """One result for each requirement of the target in each of its registries."""
    image: BuiltImage | None = None
    """The image that was built or reused; None if there is none."""

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the build, checks, requirements and pushes; `skipped` if the cell has no results."""
        built = [self.build.outcome] if self.build else []
        checks, pushes = [check.outcome for check in self.smoke], [push.outcome for push in self.publish]
        return worst([*built, *checks, *(result.outcome for result in self.requirements), *pushes])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """The results of all cells in one run."""

    run: str
    """Name of the run, from its start time and process id."""
    command: str
    """Name of the `rlimages` command that made the run, such as `build`."""
    started: str
    """Date and time of the start: ISO 8601, UTC."""
    seconds: float
    """Duration of the run."""
    cells: tuple[CellReport, ...]
    notes: tuple[str, ...] = field(default=())
    """Sentences for people about the run, such as images that were removed or base images that were fetched."""

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of all cells; `skipped` if there are none."""
        return worst(cell.outcome for cell in self.cells)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of `outcomes`: `failed` if any failed, else `skipped` if any was skipped, else `passed`.

    If `outcomes` is empty or all are `not applicable`, `skipped` is returned.
    """
    seen = set(outcomes)
    for outcome in (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED):
        if outcome in seen:
            return outcome
    return Outcome.SKIPPED


Result = BuildResult | SmokeResult | RequirementResult | PublishResult


def tally(results: Iterable[Result | CellReport]) -> str:
    """Return how many `results` have each outcome, the worst first, such as `5 passed, 1 not applicable`.

    Return `nothing` if there are no results.
    """
    counts = Counter(result.outcome for result in results)
    order = (Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED, Outcome.NOT_APPLICABLE)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if counts[outcome]) or "nothing"
