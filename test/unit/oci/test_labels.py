"""The labels of an image record how it was built."""

import ast
import json
from pathlib import Path

import pytest

from rlimages.errors import UsageError
from rlimages.oci import labels
from rlimages.oci.labels import BuildOrigin, base_differences, read_origin, source_difference

INPUTS = {"base debian:bookworm-slim": "sha256:aaa", "lock numpy": "1.24.3 1234", "recipe": "ab cd"}
LABELS = {
    "rlimages.cell": "ray-2.9.3-tf-cpu-debian",
    "rlimages.source": "5" * 64,
    "rlimages.build": "b" * 64,
    "rlimages.inputs": json.dumps(INPUTS),
    "org.opencontainers.image.revision": "c" * 40,
}


def origin(created: str = "2023-11-14T22:13:20Z", **without: str) -> BuildOrigin:
    return read_origin("an image", "sha256:1", created, {**LABELS, **without})


def test_the_creation_date_is_the_epoch_of_a_second_build() -> None:
    assert origin().epoch == 1_700_000_000
    assert origin("2023-11-14T22:13:20.987654321Z").epoch == 1_700_000_000


def test_an_image_without_a_commit_has_no_revision() -> None:
    without = {name: value for name, value in LABELS.items() if "revision" not in name}
    assert read_origin("an image", "sha256:1", "2023-11-14T22:13:20Z", without).revision == ""


def test_an_image_without_a_cell_is_refused() -> None:
    with pytest.raises(UsageError, match=r"an image has no label rlimages\.cell"):
        read_origin("an image", "sha256:1", "2023-11-14T22:13:20Z", {})


def test_an_image_without_a_creation_date_is_refused() -> None:
    with pytest.raises(UsageError, match="an image has no creation date"):
        origin("")


def test_the_same_source_digest_is_no_difference() -> None:
    assert source_difference(origin(), LABELS) == ""


def test_the_difference_of_two_source_digests_names_the_changed_inputs() -> None:
    now = {
        **LABELS,
        "rlimages.source": "6" * 64,
        "rlimages.inputs": json.dumps({**INPUTS, "lock numpy": "1.26.4 5678"}),
    }
    assert source_difference(origin(), now) == (
        "the source digest is 666666666666, the image was built from 555555555555: lock numpy"
    )


def test_another_base_image_is_named_and_is_no_difference_of_the_source() -> None:
    now = {
        **LABELS,
        "rlimages.build": "d" * 64,
        "rlimages.inputs": json.dumps({**INPUTS, "base debian:bookworm-slim": "sha256:bbb"}),
    }
    assert source_difference(origin(), now) == ""
    assert base_differences(origin(), now) == ("base debian:bookworm-slim: sha256:aaa -> sha256:bbb",)
    assert base_differences(origin(), LABELS) == ()


def test_only_this_module_spells_the_name_of_a_label() -> None:
    names = {value for name, value in vars(labels).items() if name.endswith(("_LABEL", "_ANNOTATION"))}
    module = Path(labels.__file__)
    package = module.parents[1]
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path != module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value in names or node.value.startswith("org.opencontainers."))
    ]
    assert not found
