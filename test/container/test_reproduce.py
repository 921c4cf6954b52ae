"""Rebuild an image from its labels: the digest is the same, or the files that differ are named."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import tiny_project
from tiny_project import CELL, ROOT, rlimages

IMAGE = "tiny-again:tiny-1.0-cpu"
TEMPLATE = """{% import "macros/stages.j2" as stages %}
{% import "macros/image.j2" as image %}
{{ stages.bases(recipe, registry) }}
FROM base-${processor}
{{ image.copy_files("tiny/rootfs") }}
ARG processor
LABEL rlimages.cell="{{ recipe.name }}"
"""
UNIQUE = "RUN cat /proc/sys/kernel/random/uuid >/etc/unique\n"


@pytest.fixture
def project(tmp_path: Path, client: docker.DockerClient) -> Iterator[Path]:
    tiny_project.write_project(tmp_path, {})
    matrix = (tmp_path / "build_matrix.yaml").read_text()
    (tmp_path / "build_matrix.yaml").write_text(
        matrix.replace(f"repository: {tiny_project.REPOSITORY}", "repository: tiny-again")
    )
    (tmp_path / "templates/build").mkdir()
    (tmp_path / "tiny/rootfs/opt/tiny").mkdir(parents=True)
    (tmp_path / "tiny/rootfs/opt/tiny/hello").write_text("hello\n")
    for name in ("templates/macros/image.j2", "templates/build/stamped.sh"):
        (tmp_path / name).write_text((ROOT / name).read_text())
        (tmp_path / name).chmod((ROOT / name).stat().st_mode)
    (tmp_path / ".gitignore").write_text(".rlimages\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, TEMPLATE)
    yield tmp_path
    for name in (IMAGE, f"rlimages-reproduction:{CELL}"):
        for image in client.images.list(name):
            client.images.remove(image.id, force=True)


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path, template: str) -> None:
    (root / "templates/tiny.Dockerfile.j2").write_text(template)
    for command in ("render", "lock"):
        assert rlimages(root, command).returncode == 0
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "state")


@pytest.fixture
def build_image(project: Path) -> Callable[[], None]:
    def build() -> None:
        result = rlimages(project, "build", "--no-cache")
        assert result.returncode == 0, result.stdout + result.stderr

    return build


def reproduce(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = rlimages(root, "reproduce", CELL, "--json", *arguments)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_the_digest_is_the_same_also_if_the_checkout_changed(
    project: Path, build_image: Callable[[], None], client: docker.DockerClient
) -> None:
    build_image()
    (project / "tiny/rootfs/opt/tiny/hello").write_text("changed later\n")
    code, report = reproduce(project, "--level", "digest")
    assert (code, report["level"], report["now"]) == (0, "same digest", report["was"])
    assert not client.images.list(f"rlimages-reproduction:{CELL}")
    assert (project / "tiny/rootfs/opt/tiny/hello").read_text() == "changed later\n"


def test_a_file_that_differs_in_each_build_is_named(project: Path, build_image: Callable[[], None]) -> None:
    commit(project, TEMPLATE + UNIQUE)
    build_image()
    code, report = reproduce(project)
    assert (code, report["level"], report["files"]) == (
        1,
        "same packages",
        [{"where": "etc/unique", "what": "content"}],
    )
    assert reproduce(project, "--level", "packages")[0] == 0


def test_as_is_names_a_changed_file_of_the_checkout(project: Path, build_image: Callable[[], None]) -> None:
    build_image()
    (project / "tiny/rootfs/opt/tiny/hello").write_text("HELLO\n")
    code, report = reproduce(project, "--as-is")
    assert code == 1
    assert report["files"] == [{"where": "opt/tiny/hello", "what": "content"}]
    assert report["packages"] == []


def test_an_image_in_a_registry_is_compared_without_a_local_copy(
    project: Path, build_image: Callable[[], None], client: docker.DockerClient, upstream: str
) -> None:
    commit(project, TEMPLATE + UNIQUE)
    build_image()
    name = f"{upstream}/rlimages-test-reproduce"
    client.images.get(IMAGE).tag(name, "1")
    client.images.push(name, "1")
    client.images.remove(f"{name}:1")
    result = rlimages(project, "reproduce", f"{name}:1")
    assert result.returncode == 1
    assert f"{name}:1: same packages\n" in result.stdout
    assert "    etc/unique: content\n" in result.stdout


def test_an_image_of_uncommitted_files_is_refused_with_a_remedy(project: Path, build_image: Callable[[], None]) -> None:
    (project / "tiny/rootfs/opt/tiny/hello").write_text("not committed\n")
    build_image()
    result = rlimages(project, "reproduce", CELL)
    assert result.returncode == 2
    assert "was built from files that no commit has" in result.stderr
    assert "--as-is" in result.stderr


def test_a_missing_commit_is_reported_in_one_sentence(project: Path, build_image: Callable[[], None]) -> None:
    build_image()
    subprocess.run(["rm", "-r", ".git"], cwd=project, check=True)
    git(project, "init", "--quiet")
    result = rlimages(project, "reproduce", CELL)
    assert result.returncode == 2
    assert "there is no commit '" in result.stderr
    assert "Traceback" not in result.stderr
