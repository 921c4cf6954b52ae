"""Affected cells: decided by the build inputs and checks of each cell, not by the paths of changed files."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rlimages.build.git import export_commit
from rlimages.errors import UsageError
from rlimages.project.project import Project, load_project
from rlimages.run.affected import affected_cells

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the examples' parent in a subfolder, and one commit."""
    top = tmp_path_factory.mktemp("repository")
    root = top / "images"
    for name in ("vw", "ray", "coach", "templates", "src/sagemaker_rl"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "build_matrix.yaml", root / "build_matrix.yaml")
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"], ["tag", "one"]):
        subprocess.run(["git", *words], cwd=top, check=True)
    return root


def load(root: Path) -> Project:
    return load_project(root / "build_matrix.yaml", root)


def test_changed_locks_and_checks_are_named_and_moved_lines_are_not(repository: Path) -> None:
    assert affected_cells(load(repository), "one") == {}
    matrix = repository / "build_matrix.yaml"
    old, check = matrix.read_text(), repository / "vw/smoke/check_more.py"
    lock = next((repository / "ray/lock").glob("ray-2.60.0-torch-cpu-debian.txt"))
    pins = lock.read_text()
    matrix.write_text("# a comment that moves all lines\n" + old.replace("timeout: 3600", "timeout: 3601"))
    lock.write_text(pins.replace("attrs==", "attrs==9.", 1))
    check.write_text("exit 0\n")
    try:
        affected = affected_cells(load(repository), "one")
    finally:
        matrix.write_text(old)
        lock.write_text(pins)
        check.unlink()
    vw = {cell.id for cell in load(repository).cells if cell.toolkit == "vw"}
    assert set(affected) == {*vw, "ray-2.60.0-torch-cpu-debian"}
    assert {affected[name] for name in vw} == {("its checks changed",)}
    (change,) = affected["ray-2.60.0-torch-cpu-debian"]
    assert change.startswith("lock attrs: ")


def test_every_cell_is_affected_if_the_matrix_of_the_commit_cannot_be_read(repository: Path) -> None:
    matrix, who = repository / "build_matrix.yaml", ["-c", "user.name=n", "-c", "user.email=e"]
    good = matrix.read_text()
    for text, tag in (("version: 99\n", "bad"), (good, "good")):
        matrix.write_text(text)
        subprocess.run(["git", *who, "commit", "-q", "-am", tag], cwd=repository, check=True)
        subprocess.run(["git", "tag", tag], cwd=repository, check=True)
    affected = affected_cells(load(repository), "bad")
    assert set(affected) == {cell.id for cell in load(repository).cells}
    assert next(iter(affected.values()))[0].startswith("the project cannot be read as it was at bad: ")


def test_an_unknown_commit_is_a_usage_error(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no commit 'nope' here"):
        affected_cells(load(repository), "nope")
    with pytest.raises(UsageError, match="git repository"):
        export_commit(tmp_path, "HEAD", tmp_path)
