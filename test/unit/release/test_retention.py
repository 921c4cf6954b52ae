from datetime import UTC, datetime, timedelta

import pytest

from rlimages.release.retention import (
    Decision,
    Kind,
    Rules,
    StoredManifest,
    decide_images,
    decide_records,
    decide_signatures,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=2)
RUN = "rlimages-run-20261001T120000-7-ray-1.6.0-tf-cpu"
YOUNG_RUN = "rlimages-run-20261120T120000-7-ray-1.6.0-tf-cpu"
RECORD = f"smoke-{'a' * 32}-{'b' * 32}"


def rules(**words) -> Rules:
    given = {"wanted": {"ray-1.6.0"}, "keep": (), "held": {}, "over": {}, "before": NOW - timedelta(days=30), **words}
    return Rules(**given)


def image(*tags: str, since: datetime | None = OLD, digest: str = "sha256:1", content: str = "") -> StoredManifest:
    return StoredManifest(digest=digest, tags=tags, since=since, image=content)


def judged(one: StoredManifest, **words) -> list[Decision]:
    return list(decide_images([one], rules(**words)))


def test_an_old_image_that_nothing_holds_goes() -> None:
    for tags in ((), ("ray-0.8.2",), (RUN,)):
        (decision,) = judged(image(*tags))
        assert (decision.kind, decision.goes) == (Kind.IMAGE, True)
        assert decision.why == "from 2026-10-12 12:00, and nothing holds it"


@pytest.mark.parametrize(
    ("one", "words", "why"),
    [
        (image("ray-1.6.0", "ray-0.8.2"), {}, "the matrix calls it ray-1.6.0"),
        (image("audit-7"), {"keep": ["audit-*"]}, "--keep names audit-7"),
        (image(YOUNG_RUN), {}, f"{YOUNG_RUN} holds it for a release that may go on"),
        (image(RUN), {"over": {"20261001T120000-7": False}}, f"{RUN} holds it for a release that may go on"),
        (image(), {"held": {"sha256:1": "production/us-west-2 holds it too"}}, "production/us-west-2 holds it too"),
        (image(), {"lasting": True}, "images that were promoted here stay"),
        (image(since=None), {}, "nobody knows its age"),
        (image(since=NEW), {}, "it is younger, from 2026-11-19 12:00"),
    ],
)
def test_an_image_stays_for_a_reason(one: StoredManifest, words: dict, why: str) -> None:
    (decision,) = judged(one, **words)
    assert (decision.goes, decision.why) == (False, why)


def test_a_tag_that_a_release_left_goes_alone_from_an_image_that_stays() -> None:
    stays, goes = judged(image("ray-1.6.0", RUN))
    assert not stays.goes
    assert (goes.kind, goes.tags, goes.goes) == (Kind.RUN_TAG, (RUN,), True)


def test_the_last_tag_is_never_taken_from_an_image_that_stays() -> None:
    """ECR deletes an image with its last tag."""
    (decision,) = judged(image(RUN), held={"sha256:1": "held"})
    assert not decision.goes


def test_a_release_that_is_known_to_be_over_leaves_its_tag_at_once() -> None:
    assert judged(image("ray-1.6.0", YOUNG_RUN), over={"20261120T120000-7": True})[1].goes


def test_a_record_goes_with_the_last_image_of_its_content() -> None:
    record = StoredManifest(digest="sha256:9", tags=(RECORD,), since=NEW, subject="sha256:1")
    same = image("ray-1.6.0", digest="sha256:2", content=f"sha256:{'a' * 64}")
    other = image("ray-1.6.0", digest="sha256:2", content=f"sha256:{'c' * 64}")
    for staying, there, goes in (((same,), False, False), ((other,), False, True), ((other,), True, False)):
        (decision,) = decide_records([record], staying, lambda _digest, there=there: there)
        assert decision.goes is goes


def test_a_signature_goes_with_its_image_and_a_replaced_one_by_its_age() -> None:
    there = f"sha256:{'1' * 64}"
    stored = [
        image(f"sha256-{'1' * 64}.sig", digest="sha256:a"),
        image(f"sha256-{'2' * 64}.att", digest="sha256:b", since=NEW),
        image(digest="sha256:c"),
        image(digest="sha256:d", since=NEW),
        image("readme", digest="sha256:e"),
    ]
    found = decide_signatures(stored, lambda digest: digest == there, NOW - timedelta(days=30))
    assert [decision.digest for decision in found if decision.goes] == ["sha256:b", "sha256:c"]
