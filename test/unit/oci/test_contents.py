"""The contents of an image are those of its layers, each on top of the layers below."""

import gzip
import json
import tarfile
from collections.abc import Iterator

import pytest

from rlimages.errors import ToolError
from rlimages.oci.contents import ImageContents, LayerContents, read_archive
from rlimages.oci.manifest import sha256_digest


def folder() -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def hard_link(target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = tarfile.LNKTYPE, target
    return entry


BASE = {"usr": folder(), "usr/bin": folder(), "usr/bin/train": b"#!/bin/sh\n"}


@pytest.fixture
def saved(tar):
    """Return an archive of `docker image save` with these layers, in chunks."""

    def save(*layers, pack=bytes) -> Iterator[bytes]:
        contents = [tar(layer) for layer in layers]
        diff_ids = [sha256_digest(content) for content in contents]
        names = [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in diff_ids]
        files = dict(zip(names, map(pack, contents), strict=True))
        files["config.json"] = json.dumps({"rootfs": {"diff_ids": diff_ids}}).encode()
        files["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
        content = tar(files)
        return (content[at : at + 1000] for at in range(0, len(content), 1000))

    return save


@pytest.fixture
def read(saved):
    def read_image(*layers) -> ImageContents:
        return read_archive(saved(*layers), "an image")

    return read_image


def test_paths_that_an_upper_layer_deletes_or_replaces_are_not_in_the_image(read) -> None:
    lower = {
        "usr": folder(),
        "usr/bin": folder(),
        "tmp/deleted": b"x",
        "cache/deleted/deep": b"x",
        "usr/bin/train": folder(),
        "usr/bin/train/deleted": b"",
    }
    upper = {
        "tmp/.wh.deleted": b"",
        "cache/.wh..wh..opq": b"",
        "usr/bin/train": BASE["usr/bin/train"],
    }
    assert read(lower, upper).files == read(BASE).files


def test_a_hard_link_is_a_file_like_any_other(read) -> None:
    linked = read({**BASE, "usr/bin/also": hard_link("usr/bin/train")})
    copied = read({**BASE, "usr/bin/also": BASE["usr/bin/train"]})
    assert linked.files == copied.files


def test_compressed_layers_are_read(read, saved) -> None:
    assert read_archive(saved(BASE, pack=gzip.compress), "an image").files == read(BASE).files


def test_a_layer_that_two_images_share_is_read_once(saved) -> None:
    known: dict[str, LayerContents] = {}
    first, second = (
        read_archive(saved(*layers), "an image", known=known) for layers in ([BASE], [BASE, {"etc": folder()}])
    )
    assert len(known) == 2
    assert second.files["usr/bin/train"] is first.files["usr/bin/train"]


def test_other_content_than_an_image_is_an_error_in_one_sentence() -> None:
    with pytest.raises(ToolError, match=r"^an image: what the engine saved is not an archive of an image"):
        read_archive(iter([b"not a tar archive" * 1000]), "an image")


def test_reading_an_image_can_be_interrupted(saved) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_archive(saved(BASE), "an image", check_stop=interrupt)
