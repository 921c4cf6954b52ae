import subprocess
from pathlib import Path

import pytest

from rlimages.build.git import export_commit, revision_labels
from rlimages.errors import UsageError


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=n", "-c", "user.email=e"]
    return subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a subfolder of a repository, with one commit."""
    root = tmp_path / "repository/images"
    root.mkdir(parents=True)
    (root / "file").write_text("one")
    git(root.parent, "init", "-q")
    git(root.parent, "add", ".")
    git(root.parent, "commit", "-q", "-m", "one")
    return root


def test_an_exported_commit_has_its_files_and_leaves_the_checkout_as_it_is(project: Path, tmp_path: Path) -> None:
    (project / "file").write_text("two")
    folder = tmp_path / "export"
    folder.mkdir()
    root = export_commit(project, "HEAD", folder)
    assert (root.name, (root / "file").read_text()) == ("images", "one")
    assert (project / "file").read_text() == "two"
    assert [path.name for path in folder.iterdir()] == ["tree"]


def test_an_unknown_commit_and_a_folder_without_repository_are_usage_errors(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no commit 'nope' here"):
        export_commit(project, "nope", tmp_path)
    with pytest.raises(UsageError, match="this needs the project's git repository"):
        export_commit(tmp_path, "HEAD", tmp_path)


def test_a_clean_checkout_has_the_label_of_its_commit(project: Path) -> None:
    commit = git(project, "rev-parse", "HEAD").strip()
    assert revision_labels(project) == {"org.opencontainers.image.revision": commit}


def test_a_changed_checkout_and_a_folder_without_repository_have_no_label(project: Path, tmp_path: Path) -> None:
    (project / "new").touch()
    assert revision_labels(project) == {}
    assert revision_labels(tmp_path) == {}


def test_changes_outside_of_the_project_do_not_count(project: Path) -> None:
    (project.parent / "other").touch()
    assert revision_labels(project)
