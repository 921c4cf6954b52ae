"""Collect garbage in the registries of a target: delete images, tags, pass records and signatures no longer needed.

`retention` decides what is deleted. This module reads the repositories and deletes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rlimages.checks.pass_record import parse_record
from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.manifest import parse_config, subject_digest
from rlimages.project.project import Project
from rlimages.registry.http import PATIENCE
from rlimages.release.journal import (
    JOURNAL_FILE,
    Expected,
    Journal,
    JournalEvent,
    Moving,
    Released,
    RolledBack,
    Staged,
    Started,
)
from rlimages.release.model import RegistryConnection
from rlimages.release.retention import (
    GcDecision,
    RetentionRules,
    StoredKind,
    StoredManifest,
    decide_images,
    decide_records,
    decide_signatures,
)
from rlimages.release.target import connect
from rlimages.release.targets_file import load_targets
from rlimages.supplychain.cosign import signature_repository
from rlimages.system.context import RunContext


@dataclass(frozen=True, kw_only=True, slots=True)
class GcResult:
    """A decision about one manifest or tag of a repository, and the error if its deletion failed."""

    registry: str
    """Name of the registry in the target."""
    repository: str
    """`host/repository` that has the manifest or tag."""
    decision: GcDecision
    """The manifest or tag, whether it is deleted, and the reason."""
    error: str = ""
    """Reason why the deletion failed; empty if it did not fail or nothing was to be deleted."""


def collect_garbage(
    project: Project,
    target_name: str,
    *,
    older_than: timedelta,
    keep: Sequence[str],
    delete: bool,
    now: datetime,
    context: RunContext,
) -> Iterator[GcResult]:
    """Yield a decision for each manifest in the matrix's repositories of a target; with `delete`, carry it out first.

    Images that are older than `older_than` at the time `now` are deleted, unless the matrix has their tag, a pattern in
    `keep` matches their tag, or a release or another target needs them. Images of unknown age, and all images of a
    target with `promote_from`, are kept. Pass records and signatures are deleted if their image does not exist. Without
    `delete`, nothing is changed. `context` has the credentials and the stop signal. Raises `ConfigError` if
    `targets.yaml` is missing or has mistakes, `SelectionError` if it has no target `target_name`, `RegistryError` if a
    registry does not answer, and `Interrupted` before a repository if `context.stop` is set.
    """
    targets = load_targets(project)
    target = targets.find(target_name)
    before = now - older_than
    finished, needed = _read_journals(project.state.releases, before)
    # Targets that are promoted from this one are read before anything is deleted: if one of them does not answer, it is
    # not known which images it needs.
    for other, rules in targets.by_name.items():
        if rules.promote_from == target_name:
            for connection in connect(other, rules, project.cells, environ=context.environ, patience=PATIENCE):
                with connection.client:
                    for repository in _repositories(project, connection):
                        reason = f"{connection.registry.name} has it too"
                        needed.update({stored.digest: reason for stored in _list_manifests(connection, repository)})
    for connection in connect(target_name, target, project.cells, environ=context.environ, patience=PATIENCE):
        with connection.client:
            for repository, matrix_tags in _repositories(project, connection).items():
                if context.stop.is_set():
                    raise Interrupted("interrupted; what is listed above is done")
                repository_rules = RetentionRules(
                    matrix_tags=matrix_tags,
                    keep=tuple(keep),
                    needed=needed,
                    finished=finished,
                    before=before,
                    keep_all=target.promote_from is not None,
                )
                yield from _collect_repository(connection, repository, repository_rules, delete=delete)


def _collect_repository(
    connection: RegistryConnection, repository: str, rules: RetentionRules, *, delete: bool
) -> Iterator[GcResult]:
    """Yield the decisions for the images, pass records and signatures of one repository, as `rules` decide.

    `repository` is the full name in the registry. Its signatures are in a repository of their own, which is read too.
    With `delete`, each decision is carried out before it is yielded.
    """
    signatures_in = signature_repository(repository)
    signatures = _list_manifests(connection, signatures_in)
    # Records are read before images: an image that is pushed in between then has no record here that could be mistaken
    # for one without an image.
    records = list(_read_records(connection, repository))
    images = list(_read_images(connection, repository, records, rules.matrix_tags))
    decisions = list(decide_images(images, rules))
    # Images are deleted first: if this is interrupted, no image is left without its record or signature.
    yield from _carry_out(connection, repository, decisions, delete=delete)
    deleted = {decision.digest for decision in decisions if decision.kind is StoredKind.IMAGE and decision.delete}
    kept = [image for image in images if image.digest not in deleted]
    exists = _existence(connection, repository, {image.digest for image in kept}, deleted)
    yield from _carry_out(connection, repository, list(decide_records(records, kept, exists)), delete=delete)
    decisions = list(decide_signatures(signatures, exists, rules.before))
    yield from _carry_out(connection, signatures_in, decisions, delete=delete)


def _existence(
    connection: RegistryConnection, repository: str, kept: Collection[str], deleted: Collection[str]
) -> Callable[[str], bool]:
    """Return a function that returns whether a manifest's digest is in `repository`, apart from the deleted ones.

    `kept` and `deleted` are the digests of the images that this run keeps and deletes. For ECR, `kept` is complete; any
    other registry is asked for digests that are in neither.
    """

    def exists(digest: str) -> bool:
        if digest in kept or digest in deleted or connection.ecr is not None:
            return digest in kept
        # Other registries than ECR list only manifests with a tag. One without a tag is found by its digest.
        return connection.client.read_manifest(repository, digest) is not None

    return exists


def _carry_out(
    connection: RegistryConnection, repository: str, decisions: Sequence[GcDecision], *, delete: bool
) -> Iterator[GcResult]:
    """Delete what `decisions` say, if `delete` is True. Yield a result for each decision, also for what is kept."""
    errors = _delete(connection, repository, [d for d in decisions if d.delete]) if delete else {}
    for decision in decisions:
        yield GcResult(
            registry=connection.registry.name,
            repository=f"{connection.registry.host}/{repository}",
            decision=decision,
            error=errors.get(_name_to_delete(decision), "") if decision.delete else "",
        )


def _delete(connection: RegistryConnection, repository: str, decisions: Sequence[GcDecision]) -> dict[str, str]:
    """Delete the manifest or tag of each decision. Return digest or tag -> the reason, for those not deleted."""
    names = [_name_to_delete(decision) for decision in decisions]
    if connection.ecr is not None:
        return connection.ecr.delete_images(repository, names)
    return {
        name: "this registry does not allow deletes; change its configuration, or delete it by hand"
        for name in names
        if not connection.client.delete_manifest(repository, name)
    }


def _name_to_delete(decision: GcDecision) -> str:
    """Return the name to send to the registry: the tag, if only a tag is deleted, or else the manifest's digest."""
    return decision.tags[0] if decision.kind is StoredKind.RUN_TAG else decision.digest


def _repositories(project: Project, connection: RegistryConnection) -> dict[str, set[str]]:
    """Return full name of a repository in the registry -> the tags that the matrix gives to the images in it.

    All cells of the project count, not only selected ones.
    """
    found: dict[str, set[str]] = {}
    for cell in project.cells:
        found.setdefault(connection.registry.with_prefix(cell.repository), set()).update(cell.tags)
    return found


def _list_manifests(connection: RegistryConnection, repository: str) -> list[StoredManifest]:
    """Return the manifests of a repository: all of them in ECR, only those with a tag in any other registry.

    The field `since` is the time of the push in ECR, and None in any other registry. `image` and `subject` are empty.
    """
    if connection.ecr is not None:
        return [
            StoredManifest(
                digest=image["imageDigest"], tags=tuple(image.get("imageTags", ())), since=image["imagePushedAt"]
            )
            for image in connection.ecr.describe_images(repository)
        ]
    tags: dict[str, list[str]] = {}
    for tag in connection.client.list_tags(repository):
        manifest = connection.client.read_manifest(repository, tag)
        if manifest is not None:
            tags.setdefault(manifest.digest, []).append(tag)
    return [StoredManifest(digest=digest, tags=tuple(names), since=None) for digest, names in tags.items()]


def _read_records(connection: RegistryConnection, repository: str) -> Iterator[StoredManifest]:
    """Yield the pass records of a repository, with the image id and the manifest digest that each one is for.

    `since` is the time of the push, or the time of the checks if the registry does not give it. A record whose content
    cannot be found is yielded as it was listed. Raises `RegistryError` for a content that is not a pass record.
    """
    for stored in _list_manifests(connection, repository):
        if stored.is_record:
            manifest = connection.client.read_manifest(repository, stored.digest)
            if manifest is None or not manifest.layers:
                yield stored
                continue
            content = connection.client.read_blob(repository, manifest.layers[0].digest)
            record = parse_record(content, f"{connection.registry.host}/{repository}:{stored.tags[0]}")
            since = stored.since or _parse_time(record.at)
            yield replace(stored, since=since, image=record.image, subject=subject_digest(manifest))


def _read_images(
    connection: RegistryConnection,
    repository: str,
    records: Collection[StoredManifest],
    matrix_tags: Collection[str],
) -> Iterator[StoredManifest]:
    """Yield the images of a repository, with the time from which their age counts.

    In ECR, `image` (the image id) is only read if there are `records` to match with it. In any other registry, the time
    is the latest of creation and checks (from `records`); it is None for images with a tag of `matrix_tags`.
    """
    for stored in _list_manifests(connection, repository):
        if stored.is_record:
            continue
        needs_manifest = records or connection.ecr is None
        manifest = connection.client.read_manifest(repository, stored.digest) if needs_manifest else None
        image, since = manifest.image if manifest else "", stored.since
        # An image with a tag of the matrix is kept at any age, so its configuration need not be read.
        if since is None and image and not set(stored.tags) & set(matrix_tags):
            # Only ECR says when an image was pushed. The creation time of a reproducible image is older than its build,
            # so the time of its newest pass record counts too.
            checked = [record.since for record in records if record.since and record.image == image]
            since = max([*checked, *_creation_time(connection, repository, image)], default=None)
        yield replace(stored, image=image, since=since)


def _creation_time(connection: RegistryConnection, repository: str, image: str) -> Iterator[datetime]:
    """Yield the creation time from an image's configuration; nothing if it has no time, or cannot be read.

    `image` is the image's id, which is the digest of the configuration.
    """
    name = f"{connection.registry.host}/{repository}@{image}"
    try:
        created = _parse_time(parse_config(connection.client.read_blob(repository, image), name).created)
    except RegistryError:
        return
    if created is not None:
        yield created


def _parse_time(text: str) -> datetime | None:
    """Return the time that `text` gives in ISO 8601 (UTC if it has no zone); None if it is not a time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _read_journals(folder: Path, before: datetime) -> tuple[dict[str, bool], dict[str, str]]:
    """Read the journals below `folder`. Return release name -> whether it is over, and digest -> why it is needed.

    A release is over if it was completed or rolled back in each registry that its journal names. Until it is over and
    its last event is older than `before`, it can be resumed or rolled back. So long, it needs the images that it
    uploaded and those that its tags had before.
    """
    finished: dict[str, bool] = {}
    needed: dict[str, str] = {}
    for path in sorted(folder.glob(f"*/{JOURNAL_FILE}")):
        entries, name = Journal(path).entries, path.parent.name
        registries = {entry.event.registry for entry in entries if not isinstance(entry.event, Started)}
        ended = {entry.event.registry for entry in entries if isinstance(entry.event, (Released, RolledBack))}
        finished[name] = bool(registries) and registries == ended
        if finished[name] and all((_parse_time(entry.at) or before) < before for entry in entries):
            continue
        state = "can be rolled back" if finished[name] else "is not over; resume it or roll it back"
        needed.update({digest: f"release {name} {state}" for entry in entries for digest in _digests(entry.event)})
    return finished, needed


def _digests(event: JournalEvent) -> Iterator[str]:
    """Yield the manifest digests that `event` names: uploaded, or the digest of a tag before or after a move."""
    names: tuple[str | None, ...] = ()
    if isinstance(event, (Expected, Staged)):
        names = (event.digest,)
    elif isinstance(event, Moving):
        names = (event.before, event.after)
    yield from (name for name in names if name)
