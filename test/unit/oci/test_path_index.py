"""The newest layer decides what exists at a path of an image; links are followed."""

import io
import tarfile

import pytest

from rlimages.oci.path_index import PathIndex, PathKind

RUNS, IS_FILE, IS_FOLDER = PathKind.PROGRAM, PathKind.FILE, PathKind.FOLDER


def layer(*names: str, links: dict[str, str] | None = None, size: int = 10) -> io.BytesIO:
    """Return a layer in which `name` is a program, `name-` a file without an execute permission, `name/` a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/-"))
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
                continue
            entry.mode, entry.size = 0o644 if name.endswith("-") else 0o755, size
            archive.addfile(entry, io.BytesIO(b"x" * size))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    stream.seek(0)
    return stream


def kinds_of(paths: tuple[str, ...], *newest_first: io.BytesIO) -> dict[str, PathKind]:
    index = PathIndex(paths)
    for one_layer in newest_first:
        index.add_layer(one_layer)
    return dict(index.kinds())


TRAIN = "/usr/bin/train"


@pytest.mark.parametrize(
    ("layers", "entry"),
    [
        ([layer("usr/bin/train")], RUNS),
        ([layer("./usr/bin/train")], RUNS),
        ([layer("usr/bin/train-")], IS_FILE),
        ([layer("usr/bin/train/")], IS_FOLDER),
        ([layer("usr/bin/other", "usr/sbin/train")], None),
        ([layer("etc/x"), layer("usr/bin/train")], RUNS),
        ([layer("usr/bin/train-"), layer("usr/bin/train")], IS_FILE),
        ([layer("usr/bin/.wh.train"), layer("usr/bin/train")], None),
        ([layer("usr/.wh.bin"), layer("usr/bin/train")], None),
        ([layer("usr/bin/.wh..wh..opq"), layer("usr/bin/train")], None),
        ([layer("usr/.wh..wh..opq"), layer("usr/bin/train")], None),
        ([layer(".wh..wh..opq"), layer("usr/bin/train")], None),
        ([layer("usr/bin/.wh.train", "usr/bin/train"), layer("usr/bin/train-")], RUNS),
        ([layer("usr/bin/.wh..wh..opq", "usr/bin/train"), layer("usr/bin/train-")], RUNS),
        ([layer("usr/bin/train"), layer("usr/bin/.wh.train"), layer("usr/bin/train-")], RUNS),
        ([layer("usr/bin/.wh.other"), layer("usr/bin/train")], RUNS),
        ([layer("usr/bin-"), layer("usr/bin/train")], None),
        ([layer("usr/bin/"), layer("usr/bin/train")], RUNS),
    ],
)
def test_the_newest_layer_decides_what_exists_at_a_path(layers, entry) -> None:
    assert kinds_of((TRAIN,), *layers).get(TRAIN) is entry


@pytest.mark.parametrize(
    ("links", "entry"),
    [
        ({"usr/bin/train": "train-3"}, RUNS),  # train-3 is not in the index: the link counts
        ({"usr/bin/train": "/opt/train"}, RUNS),
        ({"usr/bin/train": "../../etc/train"}, None),
        ({"usr/bin": "/opt"}, RUNS),
        ({"usr/bin": "../opt"}, RUNS),
        ({"usr": "/other", "other/bin": "/opt"}, RUNS),
        ({"usr/bin": "nowhere"}, None),
        ({"usr/bin": "/usr/bin"}, None),
        ({"usr/bin/train": "train"}, None),
    ],
)
def test_links_are_followed(links, entry) -> None:
    found = kinds_of((TRAIN, "/other/bin/x"), layer("opt/train", links=links))
    assert found.get(TRAIN) is entry


def test_a_link_of_a_newer_layer_hides_the_contents_of_a_folder_of_an_older_one() -> None:
    assert not kinds_of((TRAIN,), layer(links={"usr/bin": "/empty"}), layer("usr/bin/train"))


def test_the_size_includes_the_files_of_all_layers() -> None:
    index = PathIndex(())
    for one_layer in (layer("a", "b/", size=7), layer("a", ".wh.c", size=5), layer("c-", links={"d": "a"}, size=3)):
        index.add_layer(one_layer)
    assert index.size == 7 + 5 + 3


def test_a_layer_that_is_not_an_archive_is_an_error() -> None:
    with pytest.raises(tarfile.TarError):
        PathIndex(()).add_layer(io.BytesIO(b"no archive" * 100))
