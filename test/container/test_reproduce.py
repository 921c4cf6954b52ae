"""An image made again from its labels alone: the same digest, or the files that differ by name."""

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
    tiny_project.write(tmp_path, {})
    matrix = (tmp_path / "build_matrix.yaml").read_text()
    (tmp_path / "build_matrix.yaml").write_text(matrix.replace("repository: tiny", "repository: tiny-again"))
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


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


def commit(root: Path, template: str) -> None:
    (root / "templates/tiny.Dockerfile.j2").write_text(template)
    for word in ("render", "lock"):
        assert rlimages(root, word).returncode == 0
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "state")


@pytest.fixture
def built(project: Path) -> Callable[[], None]:
    def build() -> None:
        done = rlimages(project, "build", "--no-cache")
        assert done.returncode == 0, done.stdout + done.stderr

    return build


def reproduced(root: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = rlimages(root, "reproduce", CELL, "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_it_has_the_same_digest_whatever_became_of_the_checkout(
    project: Path, built: Callable[[], None], client: docker.DockerClient
) -> None:
    built()
    (project / "tiny/rootfs/opt/tiny/hello").write_text("changed since\n")
    code, told = reproduced(project, "--level", "digest")
    assert (code, told["level"], told["now"]) == (0, "same digest", told["was"])
    assert not client.images.list(f"rlimages-reproduction:{CELL}")
    assert (project / "tiny/rootfs/opt/tiny/hello").read_text() == "changed since\n"


def test_a_file_that_another_build_makes_otherwise_is_named(project: Path, built: Callable[[], None]) -> None:
    commit(project, TEMPLATE + UNIQUE)
    built()
    code, told = reproduced(project)
    assert (code, told["level"], told["files"]) == (1, "same packages", [{"where": "etc/unique", "what": "content"}])
    assert reproduced(project, "--level", "packages")[0] == 0


def test_a_changed_file_of_the_checkout_is_named(project: Path, built: Callable[[], None]) -> None:
    built()
    (project / "tiny/rootfs/opt/tiny/hello").write_text("HELLO\n")
    code, told = reproduced(project, "--as-is")
    assert code == 1
    assert told["files"] == [{"where": "opt/tiny/hello", "what": "content"}]
    assert told["packages"] == []


def test_an_image_in_a_registry_is_compared_where_it_is(
    project: Path, built: Callable[[], None], client: docker.DockerClient, upstream: str
) -> None:
    commit(project, TEMPLATE + UNIQUE)
    built()
    name = f"{upstream}/rlimages-test-reproduce"
    client.images.get(IMAGE).tag(name, "1")
    client.images.push(name, "1")
    client.images.remove(f"{name}:1")
    done = rlimages(project, "reproduce", f"{name}:1")
    assert done.returncode == 1
    assert f"{name}:1: same packages\n" in done.stdout
    assert "    etc/unique: content\n" in done.stdout


def test_an_image_of_files_that_no_commit_has_says_so(project: Path, built: Callable[[], None]) -> None:
    (project / "tiny/rootfs/opt/tiny/hello").write_text("not committed\n")
    built()
    done = rlimages(project, "reproduce", CELL)
    assert done.returncode == 2
    assert "was built from files that no commit has" in done.stderr
    assert "--as-is" in done.stderr


def test_a_commit_that_is_not_here_is_one_sentence(project: Path, built: Callable[[], None]) -> None:
    built()
    subprocess.run(["rm", "-r", ".git"], cwd=project, check=True)
    git(project, "init", "--quiet")
    done = rlimages(project, "reproduce", CELL)
    assert done.returncode == 2
    assert "there is no commit '" in done.stderr
    assert "Traceback" not in done.stderr
