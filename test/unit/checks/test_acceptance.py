import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rlimages.checks.acceptance import (
    acceptance_facts,
    acceptance_lines,
    apply_profile,
    check_local_image,
    require_accepted,
)
from rlimages.checks.inspection import ImageFacts
from rlimages.checks.profiles import Profile, parse_profiles
from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.errors import AcceptanceError, ToolError
from rlimages.oci.manifest import OCI_MANIFEST, ImageConfig, Manifest
from rlimages.oci.path_index import PathKind

ROOT = Path(__file__).resolve().parents[3]
TRAINING, HOSTING = parse_profiles().by_name.values()
GIB = 2**30
LABELS = {"org.opencontainers.image.title": "x", "org.opencontainers.image.version": "1.0"}
CONFIG = ImageConfig(os="linux", architecture="amd64", created="", labels=LABELS, env=(), entrypoint=(), user="")
GOOD = ImageFacts(
    reference="x:1",
    origin="local store",
    id="sha256:x",
    manifest=None,
    config=CONFIG,
    unpacked_size=2 * GIB,
    path_kinds={"/usr/bin/train": PathKind.PROGRAM, "/usr/bin/serve": PathKind.PROGRAM},
    tags=("1.0",),
)


class Store:
    """An engine's local store whose images have one byte more than the limit of hosting."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def inspect(self, reference: str) -> InspectedImage | None:
        if reference not in self.names:
            return None
        image = BuiltImage(id="sha256:x", size=10 * GIB + 1)
        return InspectedImage(image=image, labels={}, env=(), entrypoint=(), command=(), user="", workdir="")

    def read_config(self, reference: str) -> ImageConfig | None:
        return CONFIG if reference in self.names else None

    def read_path_kinds(self, _image: str, paths) -> dict[str, PathKind]:
        return {path: PathKind.PROGRAM for path in paths if path in ("/usr/bin/train", "/usr/bin/serve")}


def test_all_broken_rules_of_all_images_are_reported_together() -> None:
    other = replace(GOOD, config=replace(CONFIG, architecture="arm64", labels={}))
    results = [apply_profile(other, TRAINING), apply_profile(replace(GOOD, unpacked_size=11 * GIB), HOSTING)]
    with pytest.raises(AcceptanceError) as refusal:
        require_accepted(results)
    lines = str(refusal.value).splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["x:1", "sagemaker-training refuses it", "platform"],
        ["x:1", "sagemaker-training refuses it", "labels"],
        ["x:1", "sagemaker-hosting refuses it", "unpacked-size"],
    ]
    assert lines[0].endswith(
        "the image is for linux/arm64; accepted: linux/amd64; an instance of another platform cannot run its programs; "
        "build it with `--platform linux/amd64`"
    )


def test_an_accepted_image_raises_no_error() -> None:
    require_accepted([apply_profile(GOOD, TRAINING), apply_profile(GOOD, HOSTING)])


def test_a_local_image_is_checked_by_each_profile() -> None:
    training, hosting = check_local_image(Store("x:1"), "x:1", ("1",), (TRAINING, HOSTING))
    assert not training.broken_rules
    assert list(hosting.broken_rules) == ["unpacked-size"]


def test_a_packed_image_is_checked_by_its_manifest_too() -> None:
    manifest = Manifest(content=b"{}", media_type=OCI_MANIFEST, config=None)
    (result,) = check_local_image(Store("x:1"), "x:1", ("1",), (TRAINING,), manifest=manifest)
    assert list(result.broken_rules) == ["manifest"]


def test_the_results_of_an_image_id_have_the_name_that_people_know() -> None:
    (result,) = check_local_image(Store("sha256:x"), "sha256:x", ("1",), (TRAINING,), name="vw-9.11.9-cpu-debian")
    assert result.image.reference == "vw-9.11.9-cpu-debian"


def test_without_profiles_the_engine_is_not_asked() -> None:
    assert check_local_image(Store(), "sha256:x", ("1",), ()) == ()


def test_a_missing_local_image_is_an_error() -> None:
    with pytest.raises(ToolError, match="there is no image y in the local store"):
        check_local_image(Store("x:1"), "y", ("1",), (TRAINING,))


def test_a_result_is_shown_with_reason_and_remedy() -> None:
    (result,) = check_local_image(Store("x:1"), "x:1", ("1",), (HOSTING,))
    lines = list(acceptance_lines(result))
    assert lines[0] == "x:1 (local store): refused by sagemaker-hosting as of 2026-11-21"
    position = next(number for number, line in enumerate(lines) if line.startswith("  REFUSED  unpacked-size"))
    assert lines[position + 1].strip() == f"-> {result.rules['unpacked-size'].remedy}"


def test_a_result_for_programs_has_every_rule_with_its_outcome() -> None:
    (result,) = check_local_image(Store("x:1"), "x:1", ("1",), (HOSTING,))
    (values,) = acceptance_facts([result])
    assert values["accepted"] is False
    outcomes = {rule["rule"]: rule["outcome"] for rule in values["rules"]}
    assert outcomes == {name: each.outcome.value for name, each in result.rules.items()}
    assert (outcomes["unpacked-size"], outcomes["manifest"]) == ("failed", "not applicable")


def test_the_documentation_lists_every_key_of_a_profile() -> None:
    page = (ROOT / "docs/acceptance.md").read_text()
    section = page.partition("## A project's own")[2].partition("\n## ")[0]
    keys = re.findall(r"`([a-z_]+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert {"name", "as_of", *keys} == {field.name for field in fields(Profile)}


def test_the_example_of_the_documentation_works() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/acceptance.md").read_text(), re.DOTALL)
    own = parse_profiles(example)
    assert own.find("sagemaker-graviton").platforms == ("linux/arm64",)
    assert own.find("sagemaker-graviton").unpacked == own.find("sagemaker-hosting").unpacked == 30 * GIB
