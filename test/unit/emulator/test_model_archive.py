import io
import tarfile
from pathlib import Path

import pytest

from rlimages.emulator.containers import pack_model
from rlimages.errors import FactoryError, JobError

TARGET = "/opt/ml/model"


def archive(path: Path, *entries: tuple[str, str | bytes], mode: int = 0o600) -> Path:
    """Entries are a name and a content, or a name and `-> goal`, `=> goal` for links, `dev` for a device."""
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


def test_a_name_may_be_long(tmp_path) -> None:
    name = f"{'deep/' * 30}checkpoint"
    assert f"opt/ml/model/{name}" in contents(archive(tmp_path / "m.tar.gz", (name, b"1")))


def test_an_archive_lies_below_the_models_folder(tmp_path) -> None:
    path = archive(tmp_path / "m.tar.gz", ("./a", b"1"), ("deep/b", b"2"), ("l", "-> deep/b"), ("h", "=> ./a"))
    entries = contents(path)
    assert list(entries) == ["opt/ml/model", *(f"opt/ml/model/{name}" for name in ("a", "deep/b", "l", "h"))]
    assert entries["opt/ml/model/l"].linkname == "deep/b"
    assert entries["opt/ml/model/h"].linkname == "opt/ml/model/a"


def test_everyone_may_read_a_model_and_it_is_roots(tmp_path) -> None:
    entries = contents(archive(tmp_path / "m.tar.gz", ("a", b"1"), ("d", "dir"), mode=0o700))
    assert entries["opt/ml/model/a"].mode == 0o755
    assert entries["opt/ml/model/d"].mode == 0o755
    assert {(entry.uid, entry.uname) for entry in entries.values()} == {(0, "root")}


def test_a_folder_is_as_good_as_its_archive(tmp_path) -> None:
    (tmp_path / "m/deep").mkdir(parents=True)
    (tmp_path / "m/deep/a").write_text("1")
    (tmp_path / "m/l").symlink_to("deep/a")
    entries = contents(tmp_path / "m")
    assert list(entries) == ["opt/ml/model", "opt/ml/model/deep", "opt/ml/model/deep/a", "opt/ml/model/l"]
    assert entries["opt/ml/model/l"].isreg()


def test_without_a_model_the_folder_is_there() -> None:
    assert list(contents(None)) == ["opt/ml/model"]


@pytest.mark.parametrize(
    "entry",
    [("../a", b""), ("/a", b""), ("a/../../b", b""), ("l", "-> /etc/passwd"), ("d/l", "-> ../../x"), ("h", "=> ../x")],
)
def test_what_leads_out_of_the_models_folder_is_refused(tmp_path, entry) -> None:
    path = archive(tmp_path / "m.tar.gz", entry)
    with pytest.raises(JobError, match=r"m\.tar\.gz: .* leads out of the model's folder"):
        pack_model(path, TARGET)


def test_a_device_is_refused(tmp_path) -> None:
    with pytest.raises(JobError, match="null is neither a file, a folder nor a link"):
        pack_model(archive(tmp_path / "m.tar.gz", ("null", "dev")), TARGET)


def test_what_is_no_archive_is_named(tmp_path) -> None:
    (tmp_path / "text.tar.gz").write_text("text")
    with tarfile.open(tmp_path / "plain.tar", "w"):
        pass
    whole = archive(tmp_path / "whole.tar.gz", ("a", bytes(range(256)) * 4000)).read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    for name in ("text.tar.gz", "plain.tar", "half.tar.gz"):
        with pytest.raises(JobError, match=f"{name} is no gzip-compressed tar archive, or not a whole one"):
            pack_model(tmp_path / name, TARGET)


def test_a_model_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(FactoryError, match=r"cannot unpack .*none: No such file"):
        pack_model(tmp_path / "none", TARGET)
