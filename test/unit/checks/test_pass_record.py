import json
from dataclasses import replace

import pytest

from rlimages.checks.pass_record import (
    PassRecord,
    attach_record,
    find_record,
    make_record,
    newest_record,
    parse_record,
    record_tag,
    store_record,
)
from rlimages.checks.suite import suite_digest
from rlimages.errors import RegistryError
from rlimages.oci.manifest import DOCKER_CONFIG, Blob, Manifest, compose_manifest, subject_digest
from rlimages.plan.results import Outcome, SmokeResult

IMAGE, SUITE = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
RECORD = PassRecord(cell="vw", image=IMAGE, suite=SUITE, checks={"labels": "passed"}, at="2026-11-21T12:00:00+00:00")
SUBJECT = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest=IMAGE, size=1), ())


class Registry:
    """A registry of one repository."""

    host = "here:5000"

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}

    def read_manifest(self, _repository: str, tag_or_digest: str) -> Manifest | None:
        return self.manifests.get(tag_or_digest)

    def read_blob(self, _repository: str, digest: str) -> bytes:
        return self.blobs[digest]

    def upload_blob(self, _repository: str, blob: Blob, chunks) -> None:
        self.blobs[blob.digest] = b"".join(chunks())

    def put_manifest(self, _repository: str, tag_or_digest: str, manifest: Manifest) -> None:
        self.manifests[tag_or_digest] = manifest


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def programs(tmp_path):
    paths = [tmp_path / f"check_{name}.py" for name in ("labels", "trains")]
    for path in paths:
        path.write_text("")
    return paths


def results(cell, *outcomes: Outcome) -> list[SmokeResult]:
    return [
        SmokeResult(cell=cell, check=str(number), outcome=outcome, reason="", seconds=0.0, log="")
        for number, outcome in enumerate(outcomes)
    ]


def test_a_suite_in_which_every_check_passed_or_did_not_apply_gives_a_record(cell, programs) -> None:
    record = make_record(IMAGE, programs, results(cell, Outcome.PASSED, Outcome.NOT_APPLICABLE))
    assert record is not None
    assert (record.cell, record.image, record.suite) == (cell.id, IMAGE, suite_digest(programs))
    assert record.checks == {"0": "passed", "1": "not applicable"}


@pytest.mark.parametrize(
    "outcomes",
    [
        (Outcome.PASSED,),
        (Outcome.PASSED, Outcome.FAILED),
        (Outcome.PASSED, Outcome.SKIPPED),
        (Outcome.NOT_APPLICABLE, Outcome.NOT_APPLICABLE),
        (),
    ],
)
def test_an_incomplete_or_failed_suite_gives_no_record(cell, programs, outcomes) -> None:
    assert make_record(IMAGE, programs, results(cell, *outcomes)) is None


def test_a_stored_record_is_read_as_it_was(tmp_path, registry) -> None:
    store_record(RECORD, tmp_path)
    assert find_record(IMAGE, SUITE, registry=registry, repository="vw", folder=tmp_path) == RECORD


def test_the_tag_of_a_record_is_a_valid_tag_with_a_part_of_both_digests() -> None:
    assert record_tag(IMAGE, SUITE) == f"smoke-{'ab' * 16}-{'cd' * 16}"


def test_a_record_in_the_registry_names_the_image_as_its_subject(registry, tmp_path) -> None:
    attach_record(RECORD, SUBJECT, registry, "vw")
    assert subject_digest(registry.manifests[RECORD.tag]) == SUBJECT.digest
    assert find_record(IMAGE, SUITE, registry=registry, repository="vw", folder=tmp_path) == RECORD


def test_a_record_that_the_registry_has_is_kept(registry, tmp_path) -> None:
    attach_record(RECORD, SUBJECT, registry, "vw")
    attach_record(replace(RECORD, at="2027-01-01T00:00:00+00:00"), SUBJECT, registry, "vw")
    assert find_record(IMAGE, SUITE, registry=registry, repository="vw", folder=tmp_path) == RECORD


def test_a_record_of_another_image_under_the_same_tag_does_not_count(registry, tmp_path) -> None:
    attach_record(replace(RECORD, image=IMAGE[:-1] + "0"), SUBJECT, registry, "vw")
    assert find_record(IMAGE, SUITE, registry=registry, repository="vw", folder=tmp_path) is None


def test_the_newest_record_of_an_image_is_found_whatever_its_suite(tmp_path) -> None:
    newer = replace(RECORD, suite="sha256:" + "ef" * 32, at="2026-11-22T12:00:00+00:00")
    other = replace(RECORD, image=SUITE, at="2026-11-23T12:00:00+00:00")
    for record in (newer, RECORD, other):
        store_record(record, tmp_path)
    assert newest_record(IMAGE, tmp_path) == newer
    assert newest_record("sha256:" + "00" * 32, tmp_path) is None


@pytest.mark.parametrize("content", [b"[", b"{}", b"[1]", json.dumps({"cell": "x"}).encode()])
def test_a_record_that_cannot_be_read_is_an_error_that_names_its_source(content) -> None:
    with pytest.raises(RegistryError, match="somewhere: this is not a pass record"):
        parse_record(content, "somewhere")
