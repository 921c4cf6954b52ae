"""Promote images: copy them from one target to another by digest. Only images with a pass record are promoted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages.checks.acceptance import apply_profile, require_accepted
from rlimages.checks.inspection import read_remote_facts
from rlimages.checks.pass_record import PassRecord, find_record
from rlimages.checks.profiles import Profile, load_profiles
from rlimages.checks.suite import check_programs, suite_digest
from rlimages.errors import RegistryError, UsageError
from rlimages.matrix.cell import Cell
from rlimages.oci.manifest import Reference
from rlimages.project.project import Project
from rlimages.release.journal import start_release
from rlimages.release.model import RegistryConnection, ReleaseItem, release_item
from rlimages.release.results import RegistryResult
from rlimages.release.resume import deliver_release
from rlimages.release.target import connect, open_target
from rlimages.release.targets_file import TARGETS_FILE, load_targets
from rlimages.system.context import RunContext


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An image in the target to promote from, with the record that it passed its checks."""

    item: ReleaseItem
    """The image, under the names that the matrix gives it."""
    pass_record: PassRecord
    """The record that this image passed the checks as they are now."""


def promote(
    project: Project,
    cells: Sequence[Cell],
    target_name: str,
    source_name: str,
    *,
    allow_older: bool,
    context: RunContext,
) -> tuple[str, tuple[RegistryResult, ...]]:
    """Copy the images of `cells` to the target `target_name`. Return the release's name and a result for each registry.

    `source_name` is the target to promote from; if it is empty, `promote_from` of the target names it. `allow_older`
    lets tags move to older images. All checks come before the first upload. Raises `UsageError` if no target to promote
    from is known, `SelectionError` for an unknown target, `RegistryError` if an image does not exist or has no pass
    record, and `AcceptanceError` if an image breaks an acceptance profile that only the new target has.
    """
    targets = load_targets(project)
    source_name = source_name or targets.find(target_name).promote_from or ""
    if not source_name:
        raise UsageError(
            f"{TARGETS_FILE} does not say where '{target_name}' is promoted from; add `promote_from`, or give --from"
        )
    target = open_target(project, cells, target=target_name, environ=context.environ)
    source_rules = targets.find(source_name)
    # All regions of a target get the same images, so the first one is enough to choose them.
    source = connect(source_name, source_rules, cells, environ=context.environ)[0]
    try:
        candidates = find_candidates(cells, source, check_programs(project), project.state.pass_records)
        added = [profile for profile in target.rules.accept if profile not in source_rules.accept]
        profiles = [load_profiles(project.root).find(profile) for profile in added]
        _require_accepted(candidates, source, profiles, context)
    finally:
        source.client.close()
    items = [candidate.item for candidate in candidates]
    release = start_release(project.state.releases, target.label, items, source_name)
    pass_records = {candidate.item.cell: candidate.pass_record for candidate in candidates}
    results = deliver_release(release, target, pass_records, project=project, allow_older=allow_older, context=context)
    return release.name, results


def find_candidates(
    cells: Sequence[Cell],
    source: RegistryConnection,
    programs_of: Callable[[Cell], Sequence[Path]],
    records: Path,
) -> tuple[Candidate, ...]:
    """Return the image of each cell that the registry of `source` has under the cell's own tag, with its pass record.

    `programs_of` returns the check programs of a cell. `records` is the folder of this machine's pass records; the
    registry has them too. Raises `RegistryError` that lists all cells whose image does not exist, or has no pass record
    for the checks as they are now, because the image was rebuilt or a check was changed.
    """
    candidates, problems = [], []
    for cell in cells:
        item = release_item(cell, "")
        repository = source.registry.repository(item)
        name = source.registry.reference(item, cell.tag)
        manifest = source.client.read_manifest(repository, cell.tag)
        if manifest is None:
            problems.append(f"{name} does not exist; publish {cell.id} to {source.registry.name} first")
            continue
        suite = suite_digest(programs_of(cell))
        record = find_record(manifest.image, suite, registry=source.client, repository=repository, folder=records)
        if record is None:
            problems.append(
                f"{name} ({manifest.digest}) has no recorded PASS of the checks as they are now; "
                f"run `rlimages publish --select {cell.id}` to {source.registry.name} again"
            )
            continue
        candidates.append(Candidate(item=replace(item, image=manifest.image), pass_record=record))
    if problems:
        raise RegistryError("nothing is promoted:\n" + "\n".join(f"  {problem}" for problem in problems))
    return tuple(candidates)


def _require_accepted(
    candidates: Sequence[Candidate], source: RegistryConnection, profiles: Sequence[Profile], context: RunContext
) -> None:
    """Raise `AcceptanceError` if an image of `candidates` breaks an acceptance rule of `profiles`.

    The rules are applied to the layers that are read from the registry of `source`. Without profiles, nothing is read.
    """
    results = []
    for item in (candidate.item for candidate in candidates if profiles):
        context.note(f"{item.cell}: reading its layers for the profiles that {source.registry.name} does not have")
        reference = Reference(
            host=source.registry.host, repository=source.registry.repository(item), tag_or_digest=item.tags[0]
        )
        facts = read_remote_facts(source.client, reference, profiles, context=context)
        facts = replace(facts, reference=item.cell, tags=item.tags)
        results += [apply_profile(facts, profile) for profile in profiles]
    require_accepted(results)
