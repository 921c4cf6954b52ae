from datetime import UTC, datetime

from rlimages.checks.pass_record import record_tag
from rlimages.oci.manifest import sha256_digest
from rlimages.release.tags import RECORD_TAG, RUN_TAG_PREFIX, build_tag, release_of_run_tag, run_tag


def test_the_temporary_tag_of_a_release_has_its_name_and_start_time() -> None:
    tag = run_tag("20261121T143900-7", "ray-2.9.3-tf-cpu-debian")
    assert tag == f"{RUN_TAG_PREFIX}20261121T143900-7-ray-2.9.3-tf-cpu-debian"
    assert release_of_run_tag(tag) == ("20261121T143900-7", datetime(2026, 11, 21, 14, 39, tzinfo=UTC))


def test_no_other_tag_is_taken_for_a_temporary_one() -> None:
    for tag in ("ray-2.9.3", build_tag("f" * 64), "rlimages-run-yesterday-vw", record_tag("sha256:a", "sha256:b")):
        assert release_of_run_tag(tag) is None


def test_the_tag_of_a_pass_record_is_recognized_and_has_the_start_of_the_images_id() -> None:
    image, suite = sha256_digest(b"image"), sha256_digest(b"suite")
    assert RECORD_TAG.fullmatch(record_tag(image, suite))["image"] == image.removeprefix("sha256:")[:32]
