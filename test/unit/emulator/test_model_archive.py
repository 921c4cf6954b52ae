import io
import tarfile
from pathlib import Path

import pytest

from rlimages.emulator.model_archive import pack_model
from rlimages.errors import FactoryError, JobError

TARGET = "/opt/ml/model"


def archive(path: Path, *entries: tuple[str, str | bytes], mode: int = 0o600) -> Path:
    """Write an archive. An entry is a name with bytes, `-> TARGET`, `=> TARGET` (hard link), `dev` or `dir`."""
    with tarfile.open(path, "w:gz") as packed:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            if isinstance(content, str):
                kind, _, entry.linkname = content.partition(" ")
                entry.type = {"->": tarfile.SYMTYPE, "=>": tarfile.LNKTYPE, "dev": tarfile.CHRTYPE, "dir": tarfile.DIRTYPE}[kind]  # fmt: skip
                packed.addfile(entry)
            else:
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content))
    return path


def contents(source: Path | None) -> dict[str, tarfile.TarInfo]:
    with pack_model(source, TARGET) as stream, tarfile.open(fileobj=stream) as packed:
        return {entry.name: entry for entry in packed}


def test_a_long_name_is_kept(tmp_path) -> None:
    name = f"{'deep/' * 30}checkpoint"
    assert f"opt/ml/model/{name}" in contents(archive(tmp_path / "m.tar.gz", (name, b"1")))


def test_all_entries_are_below_the_model_folder(tmp_path) -> None:
    path = archive(tmp_path / "m.tar.gz", ("./a", b"1"), ("deep/b", b"2"), ("l", "-> deep/b"), ("h", "=> ./a"))
    entries = contents(path)
    assert list(entries) == ["opt/ml/model", *(f"opt/ml/model/{name}" for name in ("a", "deep/b", "l", "h"))]
    assert entries["opt/ml/model/l"].linkname == "deep/b"
    assert entries["opt/ml/model/h"].linkname == "opt/ml/model/a"


def test_a_model_belongs_to_root_and_every_user_may_read_it(tmp_path) -> None:
    entries = contents(archive(tmp_path / "m.tar.gz", ("a", b"1"), ("d", "dir"), mode=0o700))
    assert entries["opt/ml/model/a"].mode == 0o755
    assert entries["opt/ml/model/d"].mode == 0o755
    assert {(entry.uid, entry.uname) for entry in entries.values()} == {(0, "root")}


def test_a_folder_is_packed_with_the_targets_of_its_links(tmp_path) -> None:
    (tmp_path / "m/deep").mkdir(parents=True)
    (tmp_path / "m/deep/a").write_text("1")
    (tmp_path / "m/l").symlink_to("deep/a")
    entries = contents(tmp_path / "m")
    assert list(entries) == ["opt/ml/model", "opt/ml/model/deep", "opt/ml/model/deep/a", "opt/ml/model/l"]
    assert entries["opt/ml/model/l"].isreg()


def test_without_a_model_the_folder_is_empty() -> None:
    assert list(contents(None)) == ["opt/ml/model"]


@pytest.mark.parametrize(
    "entry",
    [("../a", b""), ("/a", b""), ("a/../../b", b""), ("l", "-> /etc/passwd"), ("d/l", "-> ../../x"), ("h", "=> ../x")],
)
def test_an_entry_outside_the_model_folder_is_refused(tmp_path, entry) -> None:
    path = archive(tmp_path / "m.tar.gz", entry)
    with pytest.raises(JobError, match=r"m\.tar\.gz: .* points outside the model folder"):
        pack_model(path, TARGET)


def test_a_device_is_refused(tmp_path) -> None:
    with pytest.raises(JobError, match="null is not a file, folder or link"):
        pack_model(archive(tmp_path / "m.tar.gz", ("null", "dev")), TARGET)


def test_a_file_that_is_not_a_complete_archive_is_refused(tmp_path) -> None:
    (tmp_path / "text.tar.gz").write_text("text")
    with tarfile.open(tmp_path / "plain.tar", "w"):
        pass
    complete = archive(tmp_path / "complete.tar.gz", ("a", bytes(range(256)) * 4000)).read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(complete[: len(complete) // 2])
    for name in ("text.tar.gz", "plain.tar", "half.tar.gz"):
        with pytest.raises(JobError, match=f"{name} is not a complete gzip-compressed tar archive: "):
            pack_model(tmp_path / name, TARGET)


def test_a_model_that_cannot_be_read_is_an_error(tmp_path) -> None:
    with pytest.raises(FactoryError, match=r"cannot unpack .*none: No such file"):
        pack_model(tmp_path / "none", TARGET)
