"""Decide which manifests and tags of a repository are not needed any more. Nothing is read or deleted here."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from rlimages.release.tags import RECORD_TAG, release_of_run_tag
from rlimages.supplychain.cosign import signed_digest


class StoredKind(StrEnum):
    """The kinds of objects in a registry that a decision is about."""

    IMAGE = "image"
    """An image, with all its tags."""
    RUN_TAG = "tag"
    """A run tag (temporary tag of a release). Its image has another tag and is kept."""
    RECORD = "record"
    """A pass record (recorded PASS of all checks for an image)."""
    SIGNATURE = "signature"
    """A signature or an attestation of cosign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredManifest:
    """One manifest of a repository: an image, a pass record, or a signature."""

    digest: str
    """Digest of the manifest."""
    tags: tuple[str, ...]
    """All its tags; empty if it has none."""
    since: datetime | None
    """Time of the push; if the registry does not give it, the time of creation or of the checks. None if not known."""
    image: str = ""
    """Image id (digest of the configuration) of this image, or of the image of a pass record; empty if not read."""
    subject: str = ""
    """For a pass record, the digest of the image's manifest; empty if it is not known, and for other manifests."""

    @property
    def is_record(self) -> bool:
        """Whether all tags are tags of a pass record, so that the manifest is not an image. False without a tag."""
        return bool(self.tags) and all(RECORD_TAG.fullmatch(tag) for tag in self.tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class GcDecision:
    """The decision to delete or keep one manifest, or one tag of it."""

    kind: StoredKind
    digest: str
    """Digest of the manifest."""
    tags: tuple[str, ...]
    """All tags of the manifest; for `StoredKind.RUN_TAG`, only the tag that is deleted."""
    delete: bool
    reason: str
    """A clause for people that says why it is deleted or kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionRules:
    """The rules that decide which images of one repository are kept."""

    matrix_tags: Collection[str]
    """Tags that the matrix gives to images of this repository. Images with one of them are kept."""
    keep: Collection[str]
    """Patterns (with * and ?) of other tags whose images are kept: the option `--keep`."""
    needed: Mapping[str, str]
    """Digest of a manifest that is needed -> the reason, as a clause for people. These images are kept."""
    finished: Mapping[str, bool]
    """Name of a release with a journal on this machine -> whether it is over (completed or rolled back)."""
    before: datetime
    """Time limit: images that were pushed at this time or later are kept."""
    keep_all: bool = False
    """Whether all images are kept, because the target gets promoted images, which people pull by digest."""

    def is_finished(self, tag: str) -> bool:
        """Return whether `tag` is a run tag (temporary tag of a release) whose release is over.

        For a release without a journal on this machine, the release counts as over if it started before `before`.
        """
        found = release_of_run_tag(tag)
        if found is None:
            return False
        release, started = found
        return self.finished.get(release, started < self.before)


def decide_images(stored: Iterable[StoredManifest], rules: RetentionRules) -> Iterator[GcDecision]:
    """Yield a decision for each image of `stored`, and for each run tag to delete from an image that is kept.

    A run tag (temporary tag of a release) is deleted if its release is over and the image has another tag.
    """
    for image in stored:
        finished = tuple(tag for tag in image.tags if rules.is_finished(tag))
        kept_because = next(_reasons_to_keep(image, rules), "")
        yield GcDecision(
            kind=StoredKind.IMAGE,
            digest=image.digest,
            tags=image.tags,
            delete=not kept_because,
            reason=kept_because or f"{_age(image)}, and nothing keeps it",
        )
        # ECR deletes an image with its last tag, so the last one stays on an image that is kept.
        if kept_because and len(finished) < len(image.tags):
            for tag in finished:
                yield GcDecision(
                    kind=StoredKind.RUN_TAG, digest=image.digest, tags=(tag,), delete=True, reason="its release is over"
                )


def decide_records(
    records: Iterable[StoredManifest], kept: Collection[StoredManifest], exists: Callable[[str], bool]
) -> Iterator[GcDecision]:
    """Yield a decision for each pass record of `records`: it is deleted if no image that it is for exists any more.

    `kept` are the images that are not deleted; a record belongs to one by the image id in its tag. `exists` returns
    whether the manifest with a digest is in the repository and not deleted; it is asked for the record's `subject`.
    """
    # The tag of a record has the first 32 digits of the image's id.
    contents = {image.image.removeprefix("sha256:")[:32] for image in kept if image.image}
    for record in records:
        named = {found["image"] for tag in record.tags if (found := RECORD_TAG.fullmatch(tag))}
        has_image = bool(named & contents) or (bool(record.subject) and exists(record.subject))
        yield GcDecision(
            kind=StoredKind.RECORD,
            digest=record.digest,
            tags=record.tags,
            delete=not has_image,
            reason="its image exists" if has_image else "its image does not exist",
        )


def decide_signatures(
    stored: Iterable[StoredManifest], exists: Callable[[str], bool], before: datetime
) -> Iterator[GcDecision]:
    """Yield a decision for each signature or attestation of `stored`: it is deleted if its image does not exist.

    `exists` returns whether the image manifest with a digest is in the image's repository and not deleted. A signature
    that a newer one replaced has no tag any more; it is deleted if it was pushed before the time `before`.
    """
    for signature in stored:
        signed = [digest for tag in signature.tags if (digest := signed_digest(tag))]
        if not signature.tags:
            delete = signature.since is not None and signature.since < before
            reason = f"replaced by another one, {_age(signature)}"
        elif len(signed) < len(signature.tags):
            delete, reason = False, "its tag is not the tag of a signature"
        else:
            delete = not any(exists(digest) for digest in signed)
            reason = "its image does not exist" if delete else "its image exists"
        yield GcDecision(
            kind=StoredKind.SIGNATURE, digest=signature.digest, tags=signature.tags, delete=delete, reason=reason
        )


def _reasons_to_keep(image: StoredManifest, rules: RetentionRules) -> Iterator[str]:
    """Yield the reasons to keep `image` by `rules`, the most important first; none if it can be deleted."""
    for tag in image.tags:
        if tag in rules.matrix_tags:
            yield f"the matrix has its tag {tag}"
    for tag in image.tags:
        if any(fnmatchcase(tag, pattern) for pattern in rules.keep):
            yield f"--keep matches its tag {tag}"
        if release_of_run_tag(tag) and not rules.is_finished(tag):
            yield f"{tag} keeps it for a release that may be resumed"
    if image.digest in rules.needed:
        yield rules.needed[image.digest]
    if rules.keep_all:
        yield "images are never deleted from a target with `promote_from`"
    if image.since is None:
        yield "its age is not known"
    elif image.since >= rules.before:
        yield f"it is not old enough, {_age(image)}"


def _age(stored: StoredManifest) -> str:
    """Return the time of a manifest as text in UTC, such as `from 2025-01-31 12:00`, or `of unknown age`."""
    return f"from {stored.since.astimezone(UTC):%Y-%m-%d %H:%M}" if stored.since else "of unknown age"
