"""An archive of `docker image save` is read once, whichever engine wrote it."""

import json
import tarfile
from collections.abc import Iterator
from typing import IO

import pytest

from rlimages.errors import ToolError
from rlimages.oci.archive import SavedImage, read_saved_image

CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]}}).encode()
LARGE = b"x" * (2 << 20)
"""Larger than any configuration, so it is read before the manifest is known."""


def chunks(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 100_000] for at in range(0, len(content), 100_000))


def manifest(*layers: str) -> bytes:
    return json.dumps([{"Config": "config.json", "Layers": layers}]).encode()


def read(content: bytes) -> SavedImage[tuple[str, bytes]]:
    def read_layer(digest: str, stream: IO[bytes]) -> tuple[str, bytes]:
        return digest, stream.read()

    return read_saved_image(chunks(content), "an image", read_layer)


def link_to(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_layers_are_read_in_the_order_of_the_manifest_with_the_digests_in_their_names(tar, content) -> None:
    names = ["blobs/sha256/a", "blobs/sha256/b"]
    saved = read(
        tar({names[1]: b"second", names[0]: content, "config.json": CONFIG, "manifest.json": manifest(*names)})
    )
    assert saved.layers == (("sha256:a", content), ("sha256:b", b"second"))
    assert (saved.config, saved.diff_ids) == (CONFIG, ("sha256:a", "sha256:b"))


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "link", [link_to("../one/layer.tar"), link_to("one/layer.tar", tarfile.LNKTYPE)], ids=["symbolic", "hard"]
)
def test_a_link_of_docker_before_25_is_the_layer_that_it_points_to(tar, content, link) -> None:
    saved = read(
        tar(
            {
                "one/layer.tar": content,
                "two/layer.tar": link,
                "config.json": CONFIG,
                "manifest.json": manifest("one/layer.tar", "two/layer.tar"),
            }
        )
    )
    assert saved.layers == (("", content), ("", content))


@pytest.mark.parametrize(
    "entries",
    [
        {"config.json": CONFIG},
        {"manifest.json": manifest()},
        {"config.json": CONFIG, "manifest.json": manifest("one/layer.tar")},
        {"config.json": CONFIG, "manifest.json": b"[]"},
        {"config.json": b"{}", "manifest.json": manifest()},
    ],
    ids=["no manifest", "no configuration", "no layer", "no image", "no layers in the configuration"],
)
def test_an_archive_without_an_image_is_an_error_that_names_the_image(tar, entries) -> None:
    with pytest.raises(ToolError, match=r"^an image: what the engine saved is not an archive of an image"):
        read(tar(entries))


def test_other_content_is_an_error_that_names_the_image() -> None:
    with pytest.raises(ToolError, match=r"^an image: what the engine saved is not an archive of an image"):
        read(b"not a tar archive" * 1000)


def test_an_archive_that_ends_too_early_is_an_error(tar) -> None:
    content = tar({"blobs/sha256/a": LARGE, "config.json": CONFIG, "manifest.json": manifest("blobs/sha256/a")})
    with pytest.raises(ToolError, match=r"^an image: what the engine saved is not an archive of an image"):
        read(content[: 1 << 20])
