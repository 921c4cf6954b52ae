"""Each test changes one thing of a small image, and the comparison names it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rlimages.oci.compare import Comparison, Similarity, compare_images
from rlimages.oci.contents import ImageContents, read_archive

STATUS = """Package: tini
Status: install ok installed
Architecture: amd64
Version: 0.19.0-1
Description: a tiny init
 Version: 9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
METADATA = "opt/venv/lib/python3.11/site-packages/numpy-1.24.3.dist-info/METADATA"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry of a layer."""

    text: str = ""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    target: str = ""
    time: int = 1_000_000
    pax: Mapping[str, str] = field(default_factory=dict)


Layer = Mapping[str, Member]
FOLDER = Member(kind=tarfile.DIRTYPE, mode=0o755)
BASE: Layer = {
    "usr": FOLDER,
    "usr/bin": FOLDER,
    "usr/bin/train": Member(text="#!/bin/sh\n", mode=0o755),
    "usr/bin/python": Member(kind=tarfile.SYMTYPE, target="python3.11", mode=0o777),
    "var/lib/dpkg/status": Member(text=STATUS),
    METADATA: Member(text="Name: numpy\n"),
}
CONFIG: Mapping[str, Any] = {"Env": ["PATH=/usr/bin"], "Entrypoint": ["train"], "Labels": {"rlimages.cell": "x"}}


def layer(members: Layer) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, member in members.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname, entry.mtime = member.kind, member.mode, member.target, member.time
            entry.uid, entry.gid = member.owner
            entry.size = len(member.text)
            entry.pax_headers = dict(member.pax)
            archive.addfile(entry, io.BytesIO(member.text.encode()))
    return stream.getvalue()


def saved(
    layers: Sequence[Layer], config: Mapping[str, Any] = CONFIG, pack: Callable[[bytes], bytes] = bytes
) -> Iterator[bytes]:
    """An image as `docker image save` gives it: its JSON last, in pieces of an odd size."""
    packed = [layer(members) for members in layers]
    diff_ids = ["sha256:" + hashlib.sha256(content).hexdigest() for content in packed]
    own = {"architecture": "amd64", "os": "linux", "config": dict(config), "rootfs": {"diff_ids": diff_ids}}
    names = [f"blobs/sha256/{name.removeprefix('sha256:')}" for name in diff_ids]
    files = dict(zip(names, map(pack, packed), strict=True))
    files["config.json"] = json.dumps(own).encode()
    files["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    content = stream.getvalue()
    return (content[at : at + 1000] for at in range(0, len(content), 1000))


def image(*layers: Layer, config: Mapping[str, Any] = CONFIG) -> ImageContents:
    return read_archive(saved(layers or [BASE], config), "an image")


def compare_with_base(changed: Layer) -> Comparison:
    return compare_images(image(), image(changed))


def changed(path: str, **what: Any) -> Layer:
    return {**BASE, path: replace(BASE[path], **what)}


def differences(comparison: Comparison) -> list[tuple[str, str]]:
    return [(difference.where, difference.what) for difference in comparison.files]


def test_images_of_the_same_bytes_have_the_same_digest() -> None:
    assert compare_images(image(), image()) == Comparison(level=Similarity.DIGEST)


def test_images_that_differ_in_time_stamps_alone_have_the_same_files() -> None:
    found = compare_with_base(changed("usr/bin/train", time=2_000_000))
    assert (found.level, found.files, found.times) == (Similarity.FILES, (), 1)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ({"text": "#!/bin/no\n"}, "content"),
        ({"text": "#!/bin/bash\n"}, "size 10 -> 12"),
        ({"mode": 0o4755}, "mode 0755 -> 4755"),
        ({"owner": (0, 42)}, "owner 0:0 -> 0:42"),
        ({"kind": tarfile.SYMTYPE, "text": "", "target": "x"}, "file -> link"),
        ({"pax": {"SCHILY.xattr.security.capability": "x"}}, "extended attributes"),
    ],
)
def test_a_changed_property_of_a_file_is_named(what: Mapping[str, Any], text: str) -> None:
    found = compare_with_base(changed("usr/bin/train", **what))
    assert (found.level, differences(found)) == (Similarity.PACKAGES, [("usr/bin/train", text)])


def test_a_changed_target_of_a_link_is_named() -> None:
    found = compare_with_base(changed("usr/bin/python", target="python3.12"))
    assert differences(found) == [("usr/bin/python", "target python3.11 -> python3.12")]


def test_a_file_that_only_one_image_has_is_named() -> None:
    more = {**BASE, "usr/bin/serve": Member()}
    assert differences(compare_with_base(more)) == [("usr/bin/serve", "only in the second")]
    assert differences(compare_images(image(more), image())) == [("usr/bin/serve", "only in the first")]


def test_images_with_another_version_of_a_debian_package_are_different() -> None:
    found = compare_with_base(changed("var/lib/dpkg/status", text=STATUS.replace("0.19.0-1", "0.19.0-2")))
    assert found.level is Similarity.DIFFERENT
    assert [(difference.where, difference.what) for difference in found.packages] == [
        ("deb tini:amd64", "0.19.0-1 -> 0.19.0-2")
    ]


def test_images_with_another_version_of_a_python_distribution_are_different() -> None:
    other = {path: member for path, member in BASE.items() if path != METADATA}
    found = compare_with_base({**other, METADATA.replace("1.24.3", "1.26.4"): BASE[METADATA]})
    assert found.level is Similarity.DIFFERENT
    assert [(difference.where, difference.what) for difference in found.packages] == [
        ("pypi numpy", "1.24.3 -> 1.26.4")
    ]


def test_images_whose_rpm_databases_differ_in_any_byte_are_different() -> None:
    database = "var/lib/rpm/rpmdb.sqlite"
    one, other = (image({**BASE, database: Member(text=text)}) for text in ("one", "two"))
    assert compare_images(one, other).level is Similarity.DIFFERENT


@pytest.mark.parametrize("key", ["Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts"])
def test_a_changed_key_of_the_configuration_is_named(key: str) -> None:
    found = compare_images(image(), image(config={**CONFIG, key: ["other"]}))
    assert found.level is Similarity.PACKAGES
    assert [difference.where for difference in found.files] == [f"configuration {key}"]


def test_a_changed_label_is_named_and_does_not_lower_the_similarity() -> None:
    found = compare_images(image(), image(config={**CONFIG, "Labels": {"rlimages.cell": "y"}}))
    assert (found.level, found.files) == (Similarity.FILES, ())
    assert [(difference.where, difference.what) for difference in found.labels] == [("label rlimages.cell", "x -> y")]
