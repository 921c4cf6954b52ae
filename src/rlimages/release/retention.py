"""Decide which manifests and tags of a repository are no longer needed. Nothing is deleted here."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from rlimages.supplychain.cosign import signed_digest

RECORD = re.compile(r"smoke-(?P<image>[0-9a-f]{32})-[0-9a-f]{32}")
"""The tag of a record of passed checks (`proof.tag_of`)."""
_RUN = re.compile(r"rlimages-run-(?P<release>(?P<time>\d{8}T\d{6})-\d+)-.+")
"""The tag that holds an image while a release goes on (`release.RUN_TAG`)."""


class Kind(StrEnum):
    """What may go."""

    IMAGE = "image"
    RUN_TAG = "tag"
    """Only a tag of a release that is over; the image has another."""
    RECORD = "record"
    SIGNATURE = "signature"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredManifest:
    """One manifest of a repository."""

    digest: str
    tags: tuple[str, ...]
    since: datetime | None
    """When it came here, or where a registry does not say, when it was made or checked; None where nobody knows."""
    image: str = ""
    """Digest of its configuration, where that was asked for."""
    subject: str = ""
    """Digest of the manifest that a record is for."""

    @property
    def is_record(self) -> bool:
        """Whether it is a record of passed checks, and no image."""
        return bool(self.tags) and all(RECORD.fullmatch(tag) for tag in self.tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What becomes of one manifest, or of one tag of it."""

    kind: Kind
    digest: str
    tags: tuple[str, ...]
    goes: bool
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """By which images go and stay."""

    wanted: Collection[str]
    """Tags of the matrix."""
    keep: Collection[str]
    """Patterns of further tags whose images stay."""
    held: Mapping[str, str]
    """Digest -> who holds it, as the end of a sentence."""
    over: Mapping[str, bool]
    """Release of this machine -> whether it is over."""
    before: datetime
    """What is younger stays."""
    lasting: bool = False
    """Images never go: people pull them from here."""

    def is_left(self, tag: str) -> bool:
        """Whether a tag is that of a release that is over: by its journal, else by the time in its name."""
        found = _RUN.fullmatch(tag)
        if found is None:
            return False
        began = datetime.strptime(found["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return self.over.get(found["release"], began < self.before)


def decide_images(stored: Iterable[StoredManifest], rules: Rules) -> Iterator[Decision]:
    """What becomes of each image, and of the tags that releases left behind."""
    for one in stored:
        left = tuple(tag for tag in one.tags if rules.is_left(tag))
        reason = _stays(one, rules)
        yield Decision(
            kind=Kind.IMAGE,
            digest=one.digest,
            tags=one.tags,
            goes=not reason,
            why=reason or f"{_age(one)}, and nothing holds it",
        )
        if reason and len(left) < len(one.tags):  # with its last tag an image would go
            for tag in left:
                yield Decision(kind=Kind.RUN_TAG, digest=one.digest, tags=(tag,), goes=True, why="its release is over")


def decide_records(
    stored: Iterable[StoredManifest], staying: Collection[StoredManifest], exists: Callable[[str], bool]
) -> Iterator[Decision]:
    """Records go with the last image that they are for; `exists`: whether a manifest is there and stays."""
    contents = {one.image.removeprefix("sha256:")[:32] for one in staying if one.image}
    for one in stored:
        named = {found["image"] for tag in one.tags if (found := RECORD.fullmatch(tag))}
        here = bool(named & contents) or (bool(one.subject) and exists(one.subject))
        why = "its image is here" if here else "the image that it is for is not here"
        yield Decision(kind=Kind.RECORD, digest=one.digest, tags=one.tags, goes=not here, why=why)


def decide_signatures(
    stored: Iterable[StoredManifest], exists: Callable[[str], bool], before: datetime
) -> Iterator[Decision]:
    """Signatures and attestations go with their image, and old ones that were replaced by their age."""
    for one in stored:
        signed = [digest for tag in one.tags if (digest := signed_digest(tag))]
        if not one.tags:
            goes = one.since is not None and one.since < before
            why = f"replaced by another one, {_age(one)}"
        elif len(signed) < len(one.tags):
            goes, why = False, "it is called as no signature is"
        else:
            goes = not any(exists(digest) for digest in signed)
            why = "the image that it is for is not here" if goes else "its image is here"
        yield Decision(kind=Kind.SIGNATURE, digest=one.digest, tags=one.tags, goes=goes, why=why)


def _stays(one: StoredManifest, rules: Rules) -> str:
    """Why an image stays; empty when it does not."""
    return next(_reasons(one, rules), "")


def _reasons(one: StoredManifest, rules: Rules) -> Iterator[str]:
    """All that keeps an image, the weightiest first."""
    for tag in one.tags:
        if tag in rules.wanted:
            yield f"the matrix calls it {tag}"
    for tag in one.tags:
        if any(fnmatchcase(tag, pattern) for pattern in rules.keep):
            yield f"--keep names {tag}"
        if _RUN.fullmatch(tag) and not rules.is_left(tag):
            yield f"{tag} holds it for a release that may go on"
    if one.digest in rules.held:
        yield rules.held[one.digest]
    if rules.lasting:
        yield "images that were promoted here stay"
    if one.since is None:
        yield "nobody knows its age"
    elif one.since >= rules.before:
        yield f"it is younger, {_age(one)}"


def _age(one: StoredManifest) -> str:
    return f"from {one.since.astimezone(UTC):%Y-%m-%d %H:%M}" if one.since else "of unknown age"
