from datetime import UTC, datetime, timedelta

import pytest

from rlimages.release.retention import (
    GcDecision,
    RetentionRules,
    StoredKind,
    StoredManifest,
    decide_images,
    decide_records,
    decide_signatures,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=2)
RELEASE = "20261001T120000-7"
RUN = f"rlimages-run-{RELEASE}-ray-1.6.0-tf-cpu"
YOUNG_RUN = "rlimages-run-20261120T120000-7-ray-1.6.0-tf-cpu"
RECORD = f"smoke-{'a' * 32}-{'b' * 32}"


def rules(**words) -> RetentionRules:
    given = {"matrix_tags": {"ray-1.6.0"}, "keep": (), "needed": {}, "finished": {}, **words}
    return RetentionRules(before=NOW - timedelta(days=30), **given)


def image(*tags: str, since: datetime | None = OLD, digest: str = "sha256:1", content: str = "") -> StoredManifest:
    return StoredManifest(digest=digest, tags=tags, since=since, image=content)


def decide(stored: StoredManifest, **words) -> list[GcDecision]:
    return list(decide_images([stored], rules(**words)))


def test_an_old_image_that_nothing_keeps_is_deleted() -> None:
    for tags in ((), ("ray-0.8.2",), (RUN,)):
        (decision,) = decide(image(*tags))
        assert (decision.kind, decision.delete) == (StoredKind.IMAGE, True)
        assert decision.reason == "from 2026-10-12 12:00, and nothing keeps it"


@pytest.mark.parametrize(
    ("stored", "words", "reason"),
    [
        (image("ray-1.6.0", "ray-0.8.2"), {}, "the matrix has its tag ray-1.6.0"),
        (image("audit-7"), {"keep": ["audit-*"]}, "--keep matches its tag audit-7"),
        (image(YOUNG_RUN), {}, f"{YOUNG_RUN} keeps it for a release that may be resumed"),
        (image(RUN), {"finished": {RELEASE: False}}, f"{RUN} keeps it for a release that may be resumed"),
        (image(), {"needed": {"sha256:1": "production has it too"}}, "production has it too"),
        (image(), {"keep_all": True}, "images are never deleted from a target with `promote_from`"),
        (image(since=None), {}, "its age is not known"),
        (image(since=NEW), {}, "it is not old enough, from 2026-11-19 12:00"),
    ],
)
def test_an_image_is_kept_for_a_reason(stored: StoredManifest, words: dict, reason: str) -> None:
    (decision,) = decide(stored, **words)
    assert (decision.delete, decision.reason) == (False, reason)


def test_the_temporary_tag_of_a_finished_release_is_deleted_from_an_image_that_is_kept() -> None:
    of_image, of_tag = decide(image("ray-1.6.0", RUN))
    assert not of_image.delete
    assert (of_tag.kind, of_tag.tags, of_tag.delete) == (StoredKind.RUN_TAG, (RUN,), True)


def test_the_last_tag_of_an_image_that_is_kept_is_never_deleted() -> None:
    """ECR deletes an image with its last tag."""
    (decision,) = decide(image(RUN), needed={"sha256:1": "needed"})
    assert not decision.delete


def test_the_temporary_tag_of_a_young_release_is_deleted_if_its_journal_says_that_it_is_over() -> None:
    assert decide(image("ray-1.6.0", YOUNG_RUN), finished={"20261120T120000-7": True})[1].delete


def test_a_pass_record_is_deleted_with_the_last_image_of_its_content() -> None:
    record = StoredManifest(digest="sha256:9", tags=(RECORD,), since=NEW, subject="sha256:1")
    same = image("ray-1.6.0", digest="sha256:2", content=f"sha256:{'a' * 64}")
    other = image("ray-1.6.0", digest="sha256:2", content=f"sha256:{'c' * 64}")
    for kept, exists, delete in (((same,), False, False), ((other,), False, True), ((other,), True, False)):
        (decision,) = decide_records([record], kept, lambda _digest, exists=exists: exists)
        assert decision.delete is delete


def test_a_signature_is_deleted_with_its_image_and_a_replaced_one_by_its_age() -> None:
    kept = f"sha256:{'1' * 64}"
    stored = [
        image(f"sha256-{'1' * 64}.sig", digest="sha256:a"),
        image(f"sha256-{'2' * 64}.att", digest="sha256:b", since=NEW),
        image(digest="sha256:c"),
        image(digest="sha256:d", since=NEW),
        image("readme", digest="sha256:e"),
    ]
    found = decide_signatures(stored, lambda digest: digest == kept, NOW - timedelta(days=30))
    assert [decision.digest for decision in found if decision.delete] == ["sha256:b", "sha256:c"]
