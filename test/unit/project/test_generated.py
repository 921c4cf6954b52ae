"""Stale Dockerfiles and locks are found; the answer is cached, and never older than the files."""

import pickle
from pathlib import Path

import pytest

from rlimages.project.generated import first_stale_file, write_generated
from rlimages.project.project import Project, load_project

MATRIX = """
version: 1
bases:
  debian-12:
    line: debian
    image: {cpu: "debian:bookworm-slim"}
    os: debian12
    python: "3.11"
toolkits:
  tiny:
    "1.0":
      as_of: 2024-01-01
      images:
        - {base: debian-12, repository: tiny, tag: tiny-1.0}
"""
DOCKERFILE = "tiny/docker/1.0/Dockerfile.debian"
STALE = f"{DOCKERFILE} is not what the matrix and the templates give; run `rlimages render`"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "project"
    (root / "templates/macros").mkdir(parents=True)
    (root / "templates/tiny.Dockerfile.j2").write_text('FROM {{ cell.base.image }}\n{% include "macros/end" %}\n')
    (root / "templates/macros/end").write_text("RUN true{{ ' # files' if has_rootfs }}\n")
    (root / "build_matrix.yaml").write_text(MATRIX)
    project = load_project(root / "build_matrix.yaml", root)
    list(write_generated(project))
    assert not first_stale_file(project, project.cells)
    return project


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (DOCKERFILE, "true", "false"),
        ("templates/tiny.Dockerfile.j2", "FROM", "FROM --platform=linux/amd64"),
        ("templates/macros/end", "true", "false"),
        ("build_matrix.yaml", "bookworm-slim", "bookworm"),
    ],
)
def test_a_changed_file_makes_the_dockerfile_stale(tiny: Project, path: str, old: str, new: str) -> None:
    file = tiny.root / path
    before = file.read_text()
    file.write_text(before.replace(old, new))
    changed = load_project(tiny.root / "build_matrix.yaml", tiny.root)
    assert first_stale_file(changed, changed.cells) == STALE
    assert first_stale_file(changed, changed.cells) == STALE
    file.write_text(before)
    assert not first_stale_file(tiny, tiny.cells)


def test_a_missing_dockerfile_is_stale(tiny: Project) -> None:
    (tiny.root / DOCKERFILE).unlink()
    assert first_stale_file(tiny, tiny.cells) == STALE


def test_the_first_file_for_the_image_makes_the_dockerfile_stale(tiny: Project) -> None:
    (tiny.root / "tiny/rootfs").mkdir()
    again = load_project(tiny.root / "build_matrix.yaml", tiny.root)
    assert first_stale_file(again, again.cells) == STALE


def test_a_new_library_file_makes_the_dockerfile_stale(tiny: Project) -> None:
    (tiny.root / "templates/tiny.Dockerfile.j2").write_text("FROM {{ cell.base.image }}\n# {{ library.tiny }}\n")
    list(write_generated(tiny))
    assert not first_stale_file(tiny, tiny.cells)
    folder = tiny.root / "src/sagemaker_rl"
    folder.mkdir(parents=True)
    (folder / "job.py").touch()
    assert first_stale_file(tiny, tiny.cells) == STALE


def test_the_answer_is_cached(tiny: Project, tmp_path: Path) -> None:
    for file in (tmp_path / "cache/rlimages").iterdir():
        if pickle.loads(file.read_bytes()) == "":
            file.write_bytes(pickle.dumps("from the cache"))
    assert first_stale_file(tiny, tiny.cells) == "from the cache"


def test_a_changed_lock_is_checked_again(tiny: Project) -> None:
    matrix = tiny.root / "build_matrix.yaml"
    matrix.write_text(MATRIX.replace("      images:", '      pip: ["six==1.16.0"]\n      images:'))
    project = load_project(matrix, tiny.root)
    list(write_generated(project))
    (cell,) = project.cells
    file = tiny.root / cell.lock
    assert first_stale_file(project, project.cells).startswith(f"{cell.lock}: missing")
    (inputs,) = project.lock_inputs(project.cells)
    file.parent.mkdir(parents=True)
    file.write_text(inputs.header)
    assert not first_stale_file(project, project.cells)
    file.write_text("six==1.16.0\n")
    assert first_stale_file(project, project.cells).startswith(f"{cell.lock}: not what build_matrix.yaml asks for")
