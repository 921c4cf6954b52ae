"""Describe how a release ended in each registry: as a value, in a run's report, as text, and as an exit code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rlimages.errors import Interrupted, RegistryError
from rlimages.matrix.cell import Cell
from rlimages.plan.results import CellReport, Outcome, PublishResult, RequirementResult
from rlimages.registry.request_counter import QUOTAS
from rlimages.release.journal import Moving, Release, RequirementChecked, Staged
from rlimages.release.model import RegistryConnection, ReleaseState
from rlimages.system.units import format_duration, format_size

INTERRUPTED = "interrupted"
"""Reason of a registry whose release the user stopped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryResult:
    """How a release ended in one registry."""

    registry: str
    state: ReleaseState
    reason: str
    """Why the release stopped, in one sentence; empty if it did not."""
    digests: Mapping[str, str]
    """Cell -> digest of its manifest, for images that were uploaded."""
    references: Mapping[str, tuple[str, ...]]
    """Cell -> the full names of its image."""
    moved: Mapping[str, tuple[str, ...]]
    """Cell -> the tags that this release moved; its other tags had the image already."""
    requirements: tuple[RequirementChecked, ...]
    """The latest result of each requirement for each image."""
    calls: Mapping[str, int]
    """Call, under ECR's name for it -> how often it was made."""
    uploads: int
    """Blobs that were sent."""
    bytes: int
    """Size of the blobs that were sent."""
    seconds: float


def registry_result(
    release: Release, connection: RegistryConnection, state: ReleaseState, reason: str, seconds: float
) -> RegistryResult:
    """Return the result for one registry, from the journal of the release and the counter of the connection."""
    registry, journal = connection.registry, release.journal
    checks = journal.find(RequirementChecked, registry=registry.name)
    return RegistryResult(
        registry=registry.name,
        state=state,
        reason=reason,
        digests={event.cell: event.digest for event in journal.find(Staged, registry=registry.name)},
        references={item.cell: tuple(registry.reference(item, tag) for tag in item.tags) for item in release.items},
        moved={
            item.cell: tuple(event.tag for event in journal.find(Moving, registry=registry.name, cell=item.cell))
            for item in release.items
        },
        requirements=tuple({(check.cell, check.requirement): check for check in checks}.values()),
        calls=connection.counter.calls,
        uploads=sum(connection.counter.uploads.values()),
        bytes=connection.counter.bytes,
        seconds=seconds,
    )


def with_results(cell: CellReport, results: Sequence[RegistryResult]) -> CellReport:
    """Return the report of a cell that was released, with its results in all registries added."""
    return replace(
        cell,
        publish=tuple(_publish_results(cell.cell, results)),
        requirements=tuple(_requirement_results(cell.cell, results)),
    )


def _publish_results(cell: Cell, results: Sequence[RegistryResult]) -> Iterator[PublishResult]:
    for result in results:
        released = result.state is ReleaseState.RELEASED
        for tag, reference in zip(cell.tags, result.references[cell.id], strict=True):
            already = "" if tag in result.moved[cell.id] else "was there already"
            yield PublishResult(
                cell=cell,
                reference=reference,
                outcome=Outcome.PASSED if released else Outcome.FAILED,
                reason=already if released else result.reason or "the release did not finish",
                digest=result.digests.get(cell.id, "") if released else "",
                # A registry is served as a whole: its time is shared equally by all tags of all images.
                seconds=result.seconds / (len(result.references) * len(result.references[cell.id])),
            )


def _requirement_results(cell: Cell, results: Sequence[RegistryResult]) -> Iterator[RequirementResult]:
    for result in results:
        for check in result.requirements:
            if check.cell == cell.id:
                yield RequirementResult(
                    cell=cell,
                    requirement=check.requirement,
                    registry=result.registry,
                    outcome=Outcome.PASSED if check.passed else Outcome.FAILED,
                    reason=check.detail,
                )


def release_notes(name: str, results: Sequence[RegistryResult]) -> Iterator[str]:
    """Yield the notes of a run's report: each registry, and the commands that resume the release or roll it back."""
    for result in results:
        yield f"{result.registry}: {result.state}; {traffic_line(result)}"
    if any(result.state is not ReleaseState.RELEASED for result in results):
        yield f"resume it with `rlimages publish --resume {name}`"
    if any(result.state is ReleaseState.BETWEEN for result in results):
        yield f"or roll it back with `rlimages publish --rollback {name}`"


def release_lines(results: Sequence[RegistryResult]) -> Iterator[str]:
    """Yield lines for people: state, traffic and requirements of each registry."""
    for result in results:
        yield f"{result.registry}: {result.state}" + (f": {result.reason}" if result.reason else "")
        yield f"  {traffic_line(result)}"
        for check in result.requirements:
            yield f"  {check.cell}: {check.requirement} {'passed' if check.passed else 'FAILED'}: {check.detail}"


def traffic_line(result: RegistryResult) -> str:
    """Return one line with the blobs sent and the calls made, with the calls per second that ECR allows."""
    calls = ", ".join(
        f"{count} {call}" + (f" ({QUOTAS[call]}/s allowed)" if call in QUOTAS else "")
        for call, count in result.calls.items()
    )
    return f"{result.uploads} blobs ({format_size(result.bytes)}) sent in {format_duration(result.seconds)}; {calls}"


def release_exit_code(results: Sequence[RegistryResult]) -> int:
    """Return 0 if the release stopped in no registry, 130 if the user stopped it, else 7."""
    if all(not result.reason for result in results):
        return 0
    interrupted = any(result.reason == INTERRUPTED for result in results)
    return Interrupted.exit_code if interrupted else RegistryError.exit_code
