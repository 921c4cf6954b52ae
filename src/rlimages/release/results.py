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
"""The `reason` of a result, if the user interrupted the release in that registry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryResult:
    """The result of a release in one registry."""

    registry: str
    """Name of the registry in the target, such as `production/us-west-2`."""
    state: ReleaseState
    """Whether the tags were moved."""
    reason: str
    """The error that stopped the release, as text, or `interrupted`; empty if it was not stopped."""
    digests: Mapping[str, str]
    """Cell id -> digest of its manifest in the registry, for the images that were uploaded."""
    references: Mapping[str, tuple[str, ...]]
    """Cell id -> `host/repository:tag` for each tag of its image, in the order of the cell's tags."""
    moved: Mapping[str, tuple[str, ...]]
    """Cell id -> the tags with a move to its image in the journal. The others had the image, or were not moved."""
    requirements: tuple[RequirementChecked, ...]
    """The latest result of each requirement (scan, signature, SBOM) for each image."""
    calls: Mapping[str, int]
    """API call of ECR, under whose name requests to any registry are counted -> number of calls."""
    uploads: int
    """Number of blobs that were sent to the registry."""
    bytes: int
    """Size of the blobs that were sent, in bytes."""
    seconds: float
    """Duration of the work in this registry by the current command."""


def registry_result(
    release: Release, connection: RegistryConnection, state: ReleaseState, reason: str, seconds: float
) -> RegistryResult:
    """Return the result for the registry of `connection`, with the given `state`, `reason` and duration `seconds`.

    The images, tags and requirements are read from the journal of `release`, the traffic from the request counter of
    `connection`.
    """
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
        # A resumed release checks again: the later result of a requirement replaces the earlier one.
        requirements=tuple({(check.cell, check.requirement): check for check in checks}.values()),
        calls=connection.counter.calls,
        uploads=sum(connection.counter.uploads.values()),
        bytes=connection.counter.bytes,
        seconds=seconds,
    )


def with_results(cell: CellReport, results: Sequence[RegistryResult]) -> CellReport:
    """Return the report `cell` with the results of its tags and requirements in each registry of `results` added."""
    return replace(
        cell,
        publish=tuple(_publish_results(cell.cell, results)),
        requirements=tuple(_requirement_results(cell.cell, results)),
    )


def _publish_results(cell: Cell, results: Sequence[RegistryResult]) -> Iterator[PublishResult]:
    """Yield a result for each registry of `results` and each tag of `cell`: passed if the registry was released."""
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
    """Yield a result for each registry of `results` and each requirement that was checked for the image of `cell`."""
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
    """Yield the notes about the release `name` for a run's report: one line for each registry, then the next commands.

    The commands resume the release, if it is not complete, and roll it back, if only some tags were moved.
    """
    for result in results:
        yield f"{result.registry}: {result.state}; {traffic_line(result)}"
    if any(result.state is not ReleaseState.RELEASED for result in results):
        yield f"resume it with `rlimages publish --resume {name}`"
    if any(result.state is ReleaseState.BETWEEN for result in results):
        yield f"or roll it back with `rlimages publish --rollback {name}`"


def release_lines(results: Sequence[RegistryResult]) -> Iterator[str]:
    """Yield lines for people, for each registry of `results`: its state, the traffic, and the requirements checked."""
    for result in results:
        yield f"{result.registry}: {result.state}" + (f": {result.reason}" if result.reason else "")
        yield f"  {traffic_line(result)}"
        for check in result.requirements:
            yield f"  {check.cell}: {check.requirement} {'passed' if check.passed else 'FAILED'}: {check.detail}"


def traffic_line(result: RegistryResult) -> str:
    """Return one line about a registry: blobs sent, time, and calls, with the calls per second that ECR allows."""
    calls = ", ".join(
        f"{count} {call}" + (f" ({QUOTAS[call]}/s allowed)" if call in QUOTAS else "")
        for call, count in result.calls.items()
    )
    return f"{result.uploads} blobs ({format_size(result.bytes)}) sent in {format_duration(result.seconds)}; {calls}"


def release_exit_code(results: Sequence[RegistryResult]) -> int:
    """Return the exit code: 0 if no result has a `reason`, 130 if the user interrupted one, 7 for other failures."""
    if all(not result.reason for result in results):
        return 0
    interrupted = any(result.reason == INTERRUPTED for result in results)
    return Interrupted.exit_code if interrupted else RegistryError.exit_code
