import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlimages.errors import FactoryError
from rlimages.system.tar import merge_tars, pack_tar, read_first_text, regular_files


def chunks(folder: Path, arcname: str, size: int = 7) -> Iterator[bytes]:
    """Yield a folder as an archive in small chunks."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, arcname)
    stream.seek(0)
    while chunk := stream.read(size):
        yield chunk


def texts(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read().decode() for entry in archive if entry.isreg()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a").write_text("a" * 1000)
    (folder / "b").write_text("b")
    return folder


def test_packed_entries_have_the_given_paths_and_belong_to_root(folder: Path) -> None:
    sources = {"/opt/code": folder, "/opt/code/c": folder / "b"}
    with pack_tar(["/opt/open"], {"/opt/text": "ü"}, sources) as stream, tarfile.open(fileobj=stream) as archive:
        entries = {entry.name: entry for entry in archive}
    assert {"opt/open", "opt/text", "opt/code/deep/a", "opt/code/c"} <= set(entries)
    assert entries["opt/open"].mode == 0o777
    assert entries["opt/text"].size == 2
    assert {entry.uid for entry in entries.values()} == {0}


def test_symbolic_links_are_followed(folder: Path) -> None:
    (folder / "link").symlink_to("b")
    with pack_tar([], {}, {"/code": folder}) as stream, tarfile.open(fileobj=stream) as archive:
        assert archive.getmember("code/link").isreg()


def test_a_source_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(FactoryError, match=r"cannot copy .*broken into the container: No such file"):
        pack_tar([], {}, {"/code": folder})


def test_archives_are_merged_and_the_first_file_of_a_name_is_kept(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b").write_text("not this")
    (other / "c").write_text("c")
    target = tmp_path / "model.tar.gz"
    merge_tars([chunks(folder, "model"), chunks(other, "model")], target)
    assert texts(target) == {"deep/a": "a" * 1000, "b": "b", "c": "c"}
    assert not target.with_name("model.tar.gz.part").exists()


def test_hard_links_are_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "hard").hardlink_to(folder / "b")
    merge_tars([chunks(folder, "model")], tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert archive.extractfile("hard").read() == archive.extractfile("b").read() == b"b"


def test_merging_no_archives_gives_an_empty_one(tmp_path: Path) -> None:
    merge_tars([], tmp_path / "x.tar.gz")
    assert texts(tmp_path / "x.tar.gz") == {}


def test_the_length_of_a_text_is_counted_in_characters(tmp_path: Path) -> None:
    (tmp_path / "failure").write_bytes("ü".encode() * 1024 + b"\xff and more")
    assert read_first_text(chunks(tmp_path / "failure", "failure"), 1024) == "ü" * 1024
    assert read_first_text(chunks(tmp_path / "failure", "failure"), 1025)[-1] == "�"


def test_a_stream_is_closed_after_an_error() -> None:
    """Docker keeps a container locked while a stream from it is open."""
    ended: list[str] = []

    def broken() -> Iterator[bytes]:
        try:
            yield b"no archive at all" * 100
            yield b"more"
        finally:
            ended.append("closed")

    with pytest.raises(tarfile.TarError):
        list(regular_files(broken()))
    assert ended == ["closed"]


def test_an_archive_is_read_to_its_end() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("model/a")
        archive.addfile(entry)
    rest = iter([stream.getvalue(), bytes(10240), b"last"])
    assert [name for name, _, _ in regular_files(rest)] == ["a"]
    assert next(rest, None) is None
