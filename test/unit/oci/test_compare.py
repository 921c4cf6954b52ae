"""How alike two images are: each test changes one thing of a small image, and it is named."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rlimages.errors import ToolError
from rlimages.oci.compare import Comparison, Similarity, compare_images
from rlimages.oci.contents import ImageContents, LayerContents, read_archive

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
    return read_archive(saved(layers or [BASE], config), "it")


def against_base(changed: Layer) -> Comparison:
    return compare_images(image(), image(changed))


def changed(path: str, **what: Any) -> Layer:
    return {**BASE, path: replace(BASE[path], **what)}


def named(comparison: Comparison) -> list[tuple[str, str]]:
    return [(one.where, one.what) for one in comparison.files]


def test_the_same_bytes_are_the_same_digest() -> None:
    assert compare_images(image(), image()) == Comparison(level=Similarity.DIGEST)


def test_another_time_alone_is_still_the_same_files() -> None:
    found = against_base(changed("usr/bin/train", time=2_000_000))
    assert (found.level, found.files, found.times) == (Similarity.FILES, (), 1)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"text": "#!/bin/no\n"}, "content"),
        ({"text": "#!/bin/bash\n"}, "size 10 -> 12"),
        ({"mode": 0o4755}, "mode 0755 -> 4755"),
        ({"owner": (0, 42)}, "owner 0:0 -> 0:42"),
        ({"kind": tarfile.SYMTYPE, "text": "", "target": "x"}, "file -> link"),
        ({"pax": {"SCHILY.xattr.security.capability": "x"}}, "extended attributes"),
    ],
)
def test_one_thing_about_a_file_is_named(what: Mapping[str, Any], said: str) -> None:
    found = against_base(changed("usr/bin/train", **what))
    assert (found.level, named(found)) == (Similarity.PACKAGES, [("usr/bin/train", said)])


def test_another_target_of_a_link_is_named() -> None:
    found = against_base(changed("usr/bin/python", target="python3.12"))
    assert named(found) == [("usr/bin/python", "target python3.11 -> python3.12")]


def test_a_file_that_only_one_has_is_named() -> None:
    more = {**BASE, "usr/bin/serve": Member()}
    assert named(against_base(more)) == [("usr/bin/serve", "only in the second")]
    assert named(compare_images(image(more), image())) == [("usr/bin/serve", "only in the first")]


def test_another_version_of_a_deb_is_another_package() -> None:
    found = against_base(changed("var/lib/dpkg/status", text=STATUS.replace("0.19.0-1", "0.19.0-2")))
    assert found.level is Similarity.DIFFERENT
    assert [(one.where, one.what) for one in found.packages] == [("deb tini:amd64", "0.19.0-1 -> 0.19.0-2")]


def test_another_version_of_a_python_distribution_is_another_package() -> None:
    other = {path: member for path, member in BASE.items() if path != METADATA}
    found = against_base({**other, METADATA.replace("1.24.3", "1.26.4"): BASE[METADATA]})
    assert found.level is Similarity.DIFFERENT
    assert [(one.where, one.what) for one in found.packages] == [("pypi numpy", "1.24.3 -> 1.26.4")]


def test_of_the_rpm_database_only_the_same_bytes_are_the_same_packages() -> None:
    database = "var/lib/rpm/rpmdb.sqlite"
    one, other = (image({**BASE, database: Member(text=text)}) for text in ("one", "two"))
    assert compare_images(one, other).level is Similarity.DIFFERENT


@pytest.mark.parametrize("key", ["Env", "Entrypoint", "Cmd", "User", "WorkingDir", "ExposedPorts"])
def test_another_way_to_run_it_is_named(key: str) -> None:
    found = compare_images(image(), image(config={**CONFIG, key: ["other"]}))
    assert found.level is Similarity.PACKAGES
    assert [one.where for one in found.files] == [f"configuration {key}"]


def test_another_label_is_named_and_lowers_nothing() -> None:
    found = compare_images(image(), image(config={**CONFIG, "Labels": {"rlimages.cell": "y"}}))
    assert (found.level, found.files) == (Similarity.FILES, ())
    assert [(one.where, one.what) for one in found.labels] == [("label rlimages.cell", "x -> y")]


# ---- layers


def test_how_files_came_to_be_does_not_matter() -> None:
    """A file that a layer removes, a folder that it empties and a file in the place of a folder leave nothing."""
    below = {
        **{path: member for path, member in BASE.items() if path != "usr/bin/train"},
        "tmp/gone": Member(text="x"),
        "cache/gone/deep": Member(text="x"),
        "usr/bin/train": FOLDER,
        "usr/bin/train/gone": Member(),
    }
    above = {
        "tmp/.wh.gone": Member(),
        "cache/.wh..wh..opq": Member(),
        "usr/bin/train": BASE["usr/bin/train"],
    }
    assert named(compare_images(image(), image(below, above))) == []


def test_a_second_name_of_a_file_is_a_file() -> None:
    link = {**BASE, "usr/bin/also": Member(kind=tarfile.LNKTYPE, target="usr/bin/train")}
    copy = {**BASE, "usr/bin/also": BASE["usr/bin/train"]}
    assert named(compare_images(image(link), image(copy))) == []


def test_compressed_layers_are_read() -> None:
    assert read_archive(saved([BASE], pack=gzip.compress), "it").files == image().files


def test_a_layer_that_both_have_is_read_once() -> None:
    known: dict[str, LayerContents] = {}
    own = {"etc": FOLDER}
    first, second = (read_archive(saved(layers), "it", known=known) for layers in ([BASE], [BASE, own]))
    assert len(known) == 2
    assert second.files["usr/bin/train"] is first.files["usr/bin/train"]


def test_what_is_no_image_is_one_sentence() -> None:
    with pytest.raises(ToolError, match=r"^it: what the engine saved is not an archive of an image"):
        read_archive(iter([b"not a tar archive" * 1000]), "it")


def test_a_reader_can_be_stopped() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_archive(saved([BASE]), "it", check_stop=stop)
