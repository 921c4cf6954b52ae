"""An image of the local store is packed once: compressed layers, configuration and manifest."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlimages.errors import ToolError
from rlimages.oci.manifest import DOCKER_LAYER, sha256_digest
from rlimages.oci.packing import PackedCache, pack_image

LAYERS = [b"the base " * 1000, b"a layer " * 1000]
DIFF_IDS = [sha256_digest(layer) for layer in LAYERS]
CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": DIFF_IDS}}).encode()
IMAGE = sha256_digest(CONFIG)


@pytest.fixture
def cache(tmp_path) -> PackedCache:
    return PackedCache(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "layers"


@pytest.fixture
def save(tar) -> Callable[[], Iterator[bytes]]:
    names = [f"blobs/sha256/{digest[7:]}" for digest in DIFF_IDS]
    manifest = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    content = tar({**dict(zip(names, LAYERS, strict=True)), "config.json": CONFIG, "manifest.json": manifest})
    return lambda: iter([content])


def never() -> Iterator[bytes]:
    raise AssertionError("the image is saved again")


def test_layers_are_compressed_and_named_by_their_digest(save, folder, cache) -> None:
    packed = pack_image(IMAGE, save, folder, cache)
    assert [layer.media_type for layer in packed.manifest.layers] == [DOCKER_LAYER] * 2
    assert packed.manifest.image == IMAGE
    for layer, unpacked in zip(packed.manifest.layers, LAYERS, strict=True):
        content = b"".join(packed.chunks(layer))
        assert (sha256_digest(content), len(content)) == (layer.digest, layer.size)
        assert gzip.decompress(content) == unpacked
    assert b"".join(packed.chunks(packed.manifest.blobs[-1])) == CONFIG


def test_an_image_that_was_packed_before_is_not_saved_again(save, folder, cache) -> None:
    first = pack_image(IMAGE, save, folder, cache)
    assert pack_image(IMAGE, never, folder, cache) == first


def test_layers_that_are_not_wanted_are_not_packed_again(save, folder, cache) -> None:
    first = pack_image(IMAGE, save, folder, cache)
    for path in folder.iterdir():
        path.unlink()
    assert pack_image(IMAGE, never, folder, cache, is_wanted=lambda _blob: False) == first
    wanted = first.manifest.layers[1]
    again = pack_image(IMAGE, save, folder, cache, is_wanted=lambda blob: blob == wanted)
    assert again == first
    assert [path.name for path in folder.iterdir()] == [wanted.digest.removeprefix("sha256:")]


def test_a_layer_that_was_not_packed_cannot_be_read(save, folder, cache) -> None:
    packed = pack_image(IMAGE, save, folder, cache)
    (folder / packed.manifest.layers[0].digest.removeprefix("sha256:")).unlink()
    with pytest.raises(ToolError, match="a packed layer cannot be read"):
        list(packed.chunks(packed.manifest.layers[0]))


def test_another_image_than_the_wanted_one_is_an_error(save, folder, cache) -> None:
    with pytest.raises(ToolError, match=r"^sha256:other: the engine saved another content"):
        pack_image("sha256:other", save, folder, cache)
    assert cache.image("sha256:other") is None


def test_a_damaged_entry_of_the_cache_counts_as_missing(save, folder, cache, tmp_path) -> None:
    pack_image(IMAGE, save, folder, cache)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"damaged")
    assert cache.image(IMAGE) is None
    assert cache.layer(DIFF_IDS[0]) is None
