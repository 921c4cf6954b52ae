"""List the repositories of a target, and delete what retention allows."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rlimages.checks.pass_record import parse_record
from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.manifest import parse_config, subject_digest
from rlimages.project.project import Project
from rlimages.registry.http import PATIENCE
from rlimages.release.journal import JOURNAL_FILE, Journal
from rlimages.release.model import RegistryConnection
from rlimages.release.retention import (
    Decision,
    Kind,
    Rules,
    StoredManifest,
    decide_images,
    decide_records,
    decide_signatures,
)
from rlimages.release.targets import connect, load_targets
from rlimages.supplychain.cosign import signature_repository
from rlimages.system.process import Stop

_FINISHED = ("released", "rolled back")


@dataclass(frozen=True, kw_only=True, slots=True)
class GcResult:
    """What became, or would become, of one thing in one repository."""

    place: str
    repository: str
    """`host/repository`."""
    decision: Decision
    error: str = ""
    """Why it is still there though it was to go."""


def collect_garbage(
    project: Project,
    name: str,
    *,
    older_than: timedelta,
    keep: Sequence[str],
    delete: bool,
    environ: Mapping[str, str],
    now: datetime,
    stop: Stop,
) -> Iterator[GcResult]:
    """Go through all repositories of a target. Without `delete` nothing is changed anywhere.

    Raises `RegistryError` where a target can't be asked; one that is promoted from this one is asked before anything is
    deleted. Raises `Interrupted` between two repositories.
    """
    targets = load_targets(project)
    target = targets.find(name)
    over, held = _journals(project.state.releases, now - older_than)
    for other, rules in targets.by_name.items():
        if rules.promote_from == name:
            for opened in connect(other, rules, project.cells, environ=environ, patience=PATIENCE):
                with opened.registry:
                    for repository in _repositories(project, opened):
                        where = f"{opened.place.name} holds it too"
                        held.update({one.digest: where for one in _list_manifests(opened, repository)})
    for opened in connect(name, target, project.cells, environ=environ, patience=PATIENCE):
        with opened.registry:
            for repository, wanted in _repositories(project, opened).items():
                if stop.is_set():
                    raise Interrupted("interrupted; what is told above is done")
                law = Rules(
                    wanted=wanted,
                    keep=tuple(keep),
                    held=held,
                    over=over,
                    before=now - older_than,
                    lasting=target.promote_from is not None,
                )
                yield from _collect_repository(opened, repository, law, delete=delete)


def _collect_repository(
    opened: RegistryConnection, repository: str, rules: Rules, *, delete: bool
) -> Iterator[GcResult]:
    beside = signature_repository(repository)
    signed = _list_manifests(opened, beside)
    # first the records, then the images: one that comes in between has no record here that could be taken for orphaned
    marks = list(_pass_records(opened, repository))
    stored = list(_images(opened, repository, marks, rules.wanted))
    decided = list(decide_images(stored, rules))
    yield from _carry_out(opened, repository, decided, delete=delete)
    gone = {one.digest for one in decided if one.kind is Kind.IMAGE and one.goes}
    staying = [one for one in stored if one.digest not in gone]
    exists = _existing(opened, repository, {one.digest for one in staying}, gone)
    yield from _carry_out(opened, repository, list(decide_records(marks, staying, exists)), delete=delete)
    yield from _carry_out(opened, beside, list(decide_signatures(signed, exists, rules.before)), delete=delete)


def _existing(
    opened: RegistryConnection, repository: str, staying: Collection[str], gone: Collection[str]
) -> Callable[[str], bool]:
    """Whether a manifest is there and stays. A registry that lists tags only is asked for those that have none."""

    def exists(digest: str) -> bool:
        if digest in staying or digest in gone or opened.ecr is not None:
            return digest in staying
        return opened.registry.manifest(repository, digest) is not None

    return exists


def _carry_out(
    opened: RegistryConnection, repository: str, decided: Sequence[Decision], *, delete: bool
) -> Iterator[GcResult]:
    going = [one for one in decided if one.goes]
    errors = _delete(opened, repository, going) if delete else {}
    for one in decided:
        error = errors.get(one.tags[0] if one.kind is Kind.RUN_TAG else one.digest, "") if one.goes else ""
        yield GcResult(
            place=opened.place.name, repository=f"{opened.place.host}/{repository}", decision=one, error=error
        )


def _delete(opened: RegistryConnection, repository: str, going: Sequence[Decision]) -> dict[str, str]:
    """Digest or tag -> why it is still there."""
    names = [one.tags[0] if one.kind is Kind.RUN_TAG else one.digest for one in going]
    if opened.ecr is not None:
        return opened.ecr.delete(repository, names)
    return {
        name: "this registry offers no deletes; allow them there, or delete it by hand"
        for name in names
        if not opened.registry.delete_manifest(repository, name)
    }


def _repositories(project: Project, opened: RegistryConnection) -> dict[str, set[str]]:
    """Repository -> the tags that the matrix gives to its images."""
    found: dict[str, set[str]] = {}
    for cell in project.cells:
        repository = f"{opened.place.prefix}/{cell.repository}" if opened.place.prefix else cell.repository
        found.setdefault(repository, set()).update(cell.tags)
    return found


def _list_manifests(opened: RegistryConnection, repository: str) -> list[StoredManifest]:
    """All that a repository holds: of ECR also what has no tag, of a plain registry what its tags name."""
    if opened.ecr is not None:
        return [
            StoredManifest(
                digest=told["imageDigest"], tags=tuple(told.get("imageTags", ())), since=told["imagePushedAt"]
            )
            for told in opened.ecr.images(repository)
        ]
    tags: dict[str, list[str]] = {}
    for tag in opened.registry.tags(repository):
        manifest = opened.registry.manifest(repository, tag)
        if manifest is not None:
            tags.setdefault(manifest.digest, []).append(tag)
    return [StoredManifest(digest=digest, tags=tuple(names), since=None) for digest, names in tags.items()]


def _pass_records(opened: RegistryConnection, repository: str) -> Iterator[StoredManifest]:
    """The records of passed checks, each with what it is for and when that was checked."""
    for one in _list_manifests(opened, repository):
        if one.is_record:
            manifest = opened.registry.manifest(repository, one.digest)
            if manifest is None or not manifest.layers:
                yield one
                continue
            content = opened.registry.blob(repository, manifest.layers[0].digest)
            record = parse_record(content, f"{opened.place.host}/{repository}:{one.tags[0]}")
            since = one.since or _parse_time(record.at)
            yield replace(one, since=since, image=record.image, subject=subject_digest(manifest))


def _images(
    opened: RegistryConnection, repository: str, marks: Collection[StoredManifest], wanted: Collection[str]
) -> Iterator[StoredManifest]:
    """The images, with their contents where there are records of any.

    A plain registry does not say since when it has them. They say when they were made, but reproducible ones say a time
    before that; so that of their records counts too.
    """
    for one in _list_manifests(opened, repository):
        if one.is_record:
            continue
        asked = marks or opened.ecr is None
        manifest = opened.registry.manifest(repository, one.digest) if asked else None
        image, since = manifest.image if manifest else "", one.since
        if since is None and image and not set(one.tags) & set(wanted):
            checked = [mark.since for mark in marks if mark.since and mark.image == image]
            since = max([*checked, *_build_time(opened, repository, image)], default=None)
        yield replace(one, image=image, since=since)


def _build_time(opened: RegistryConnection, repository: str, image: str) -> Iterator[datetime]:
    """When an image says that it was made; nothing where it is none, or does not say."""
    where = f"{opened.place.host}/{repository}@{image}"
    try:
        made = _parse_time(parse_config(opened.registry.blob(repository, image), where).created)
    except RegistryError:
        return
    if made is not None:
        yield made


def _parse_time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _journals(folder: Path, before: datetime) -> tuple[dict[str, bool], dict[str, str]]:
    """Of this machine's releases: whether each is over, and the digests that they hold.

    A release holds what it brought and what its tags held before, until it is over and old: it can be rolled back.
    """
    over, held = {}, {}
    for path in sorted(folder.glob(f"*/{JOURNAL_FILE}")):
        book, name = Journal(path), path.parent.name
        entries = book.entries
        places = {entry["place"] for entry in entries if "place" in entry}
        ended = {entry["place"] for entry in entries if entry["event"] in _FINISHED}
        over[name] = bool(places) and places == ended
        if over[name] and all((_parse_time(entry["at"]) or before) < before for entry in entries):
            continue
        why = "can be rolled back" if over[name] else "is not over; resume it or roll it back"
        for entry in entries:
            for word in ("digest", "before", "after"):
                if entry.get(word):
                    held[str(entry[word])] = f"release {name} {why}"
    return over, held
