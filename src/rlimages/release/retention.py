"""Decide which manifests and tags of a repository are not needed any more. Nothing is deleted here."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from rlimages.release.tags import RECORD_TAG, release_of_run_tag
from rlimages.supplychain.cosign import signed_digest


class StoredKind(StrEnum):
    """Kind of thing that a decision is about."""

    IMAGE = "image"
    RUN_TAG = "tag"
    """Only the temporary tag of a release. The image has another tag and stays."""
    RECORD = "record"
    """A pass record."""
    SIGNATURE = "signature"
    """A signature or an attestation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredManifest:
    """One manifest of a repository."""

    digest: str
    tags: tuple[str, ...]
    since: datetime | None
    """When it was pushed. If the registry does not say: when it was created or checked; None if nothing is known."""
    image: str = ""
    """Digest of the image's configuration, or of the image that a pass record is for; empty if it was not read."""
    subject: str = ""
    """Digest of the manifest that a pass record is for."""

    @property
    def is_record(self) -> bool:
        """Whether it is a pass record, not an image."""
        return bool(self.tags) and all(RECORD_TAG.fullmatch(tag) for tag in self.tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class GcDecision:
    """Whether one manifest, or one tag of it, is deleted."""

    kind: StoredKind
    digest: str
    tags: tuple[str, ...]
    delete: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionRules:
    """The rules by which the images of one repository are kept or deleted."""

    matrix_tags: Collection[str]
    """Tags that the matrix gives to images of this repository."""
    keep: Collection[str]
    """Patterns of other tags whose images are kept."""
    needed: Mapping[str, str]
    """Digest -> why it is needed, as a sentence."""
    finished: Mapping[str, bool]
    """Release of this machine -> whether it is over."""
    before: datetime
    """Images that are not older than this are kept."""
    keep_all: bool = False
    """Whether all images are kept, because people pull them by digest."""

    def is_finished(self, tag: str) -> bool:
        """Return whether a tag is the temporary tag of a release that is over.

        The journal of this machine says so. For a release of another machine, the time in the tag decides.
        """
        found = release_of_run_tag(tag)
        if found is None:
            return False
        release, started = found
        return self.finished.get(release, started < self.before)


def decide_images(stored: Iterable[StoredManifest], rules: RetentionRules) -> Iterator[GcDecision]:
    """Yield a decision for each image, and for each temporary tag whose release is over."""
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
    """Yield a decision for each pass record: it is deleted with the last image that it is for.

    `kept` are the images that are not deleted. `exists` returns whether a digest is in the repository and not deleted.
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
    """Yield a decision for each signature or attestation: it is deleted with its image.

    One that was replaced by another has no tag any more; it is deleted if it is older than `before`.
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
    """Yield all reasons to keep an image, the most important first."""
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
    return f"from {stored.since.astimezone(UTC):%Y-%m-%d %H:%M}" if stored.since else "of unknown age"
