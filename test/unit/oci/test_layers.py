"""A layer is read with its digest checked; its whiteouts delete paths of the layers below."""

import gzip
import io
import tarfile
from collections.abc import Iterator

import pytest

from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.layers import Whiteouts, layer_entries, open_layer, parent_folders
from rlimages.oci.manifest import DOCKER_LAYER, Blob, sha256_digest

PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"


def blob_of(content: bytes, media_type: str = DOCKER_LAYER) -> Blob:
    return Blob(media_type=media_type, digest=sha256_digest(content), size=len(content))


def chunks(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1000] for at in range(0, len(content), 1000))


def names(blob: Blob, content: bytes, check_stop=lambda: None) -> list[str]:
    with (
        open_layer(blob, chunks(content), check_stop) as layer,
        tarfile.open(fileobj=layer, mode="r|") as archive,
    ):
        return archive.getnames()


def test_a_compressed_layer_is_decompressed(tar) -> None:
    content = gzip.compress(tar({"etc/hosts": b"x"}))
    assert names(blob_of(content), content) == ["etc/hosts"]


def test_a_plain_layer_is_read_as_it_is(tar) -> None:
    content = tar({"etc/hosts": b"x"})
    assert names(blob_of(content, PLAIN_LAYER), content) == ["etc/hosts"]


@pytest.mark.parametrize("media_type", [DOCKER_LAYER, PLAIN_LAYER])
def test_another_content_is_an_error_that_names_both_digests(tar, media_type) -> None:
    pack = gzip.compress if media_type == DOCKER_LAYER else bytes
    wanted, received = pack(tar({"etc/hosts": b"x"})), pack(tar({"etc/hosts": b"y"}))
    with pytest.raises(RegistryError, match=f"^layer {sha256_digest(wanted)} .* digest {sha256_digest(received)};"):
        names(blob_of(wanted, media_type), received)


def test_the_digest_covers_what_follows_the_archive(tar) -> None:
    content = tar({"etc/hosts": b"x"})
    with pytest.raises(RegistryError, match="was received with the digest"):
        names(blob_of(content, PLAIN_LAYER), content + b"more")


@pytest.mark.parametrize("content", [b"", b"neither an archive nor compressed" * 100], ids=["nothing", "something"])
@pytest.mark.parametrize("media_type", [DOCKER_LAYER, PLAIN_LAYER])
def test_a_content_that_is_not_a_layer_is_an_error(content, media_type) -> None:
    with pytest.raises(RegistryError, match="is not what its media type says"):
        names(blob_of(content, media_type), content)


def test_a_compressed_layer_that_ends_too_early_is_an_error(tar) -> None:
    content = gzip.compress(tar({"random": bytes(range(256)) * 100}))
    with pytest.raises(RegistryError, match="is not what its media type says"):
        names(blob_of(content), content[:-100])


def test_reading_can_be_interrupted(tar) -> None:
    def interrupt() -> None:
        raise Interrupted("interrupted")

    content = gzip.compress(tar({"etc/hosts": b"x"}))
    with pytest.raises(Interrupted):
        names(blob_of(content), content, interrupt)


def test_entries_have_normal_paths_and_whiteouts_are_collected(tar) -> None:
    content = tar({"./usr/bin/train": b"", "usr/.wh.lib": b"", "cache/.wh..wh..opq": b"", ".wh..wh..opq": b""})
    whiteouts = Whiteouts()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as archive:
        assert [path for path, _ in layer_entries(archive, whiteouts)] == ["usr/bin/train"]
    assert whiteouts == Whiteouts(paths={"usr/lib"}, opaque_folders={"cache", ""})


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("usr/lib", True),
        ("usr/lib/python", True),
        ("usr/lib64", False),
        ("cache", False),
        ("cache/pip", True),
        ("etc/alternatives/python", True),
        ("etc/alternatives", False),
    ],
)
def test_a_path_is_hidden_if_it_or_a_folder_above_it_is_deleted_or_replaced(path, hidden) -> None:
    whiteouts = Whiteouts(paths={"usr/lib"}, opaque_folders={"cache"})
    assert whiteouts.hides(path, lambda folder: folder == "etc/alternatives") is hidden


def test_the_folders_above_a_path_are_listed_from_the_root() -> None:
    assert list(parent_folders("usr/bin/train")) == ["usr", "usr/bin"]
    assert list(parent_folders("usr")) == []
