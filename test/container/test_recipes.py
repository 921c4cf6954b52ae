"""The recipes of SageMaker's line, built as the documentation says, on a base that stands in for one in ECR.

The framework images can't be pulled without an AWS account, so the stand-in is Debian with an interpreter of its own: it
shows that the recipe's own work (packages, wheels from the lock, entrypoint, labels) is right, not that the real base is.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml

from rlimages.build.host_context import prepare_contexts
from rlimages.project.generated import write_generated
from rlimages.project.project import Project, load_project
from rlimages.project.requirements_lock import lock_text
from rlimages.system.files import write_text

ROOT = Path(__file__).resolve().parents[2]
NAME = "rlimages-stand-in"
BASE = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/stand-in:1-cpu"
STAND_IN = """
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -qy --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/base
ENV PATH=/opt/base/bin:$PATH
"""


def matrix_on_stand_in() -> str:
    """The real Ray recipe on a base in ECR, with the small set of packages of VW 9 so that it is built in a minute."""
    document = yaml.safe_load((ROOT / "build_matrix.yaml").read_text())
    small = document["toolkits"]["vw"]["9.11.9"]
    (image,) = (image for image in small["images"] if image["base"] == "debian-12")
    row = {
        "base": "stand-in",
        "repository": "stand-in",
        "tag": "stand-in",
        "pip": image["pip"],
        "apt": {"run": ["tini"], "build": ["gcc", "libc6-dev", "python3-dev"]},
    }
    base = {
        "registry": "deep-learning-containers",
        "image": {"cpu": "stand-in:1-cpu"},
        "framework": {"name": "tf", "version": "2.13.0"},
        "os": "debian12",
        "python": "3.11",
    }
    document["bases"] = {"stand-in": base}
    document["toolkits"] = {"ray": {"2.9.3": {"as_of": small["as_of"], "images": [row]}}}
    return yaml.safe_dump(document, sort_keys=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient) -> Project:
    root = tmp_path_factory.mktemp("project")
    (root / "build_matrix.yaml").write_text(matrix_on_stand_in())
    for folder in ("templates", "ray/rootfs", "src/sagemaker_rl"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / ".dockerignore", root)
    project = load_project(root / "build_matrix.yaml", root)
    list(write_generated(project))
    (asked,) = project.lock_inputs(project.cells)
    resolved = (ROOT / "vw/lock/vw-9.11.9-cpu-debian.txt").read_text()
    write_text(root / asked.cell.lock, lock_text(asked, resolved))
    return project


@pytest.fixture(scope="module")
def loans(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's certificates and wheels, as `rlimages build` would lend them."""
    folder = tmp_path_factory.mktemp("buildhost")
    prepared = prepare_contexts(
        folder,
        {cell.id: (project.root / cell.lock).read_text() for cell in project.cells},
        environ=os.environ,
        home=Path.home(),
    )
    return prepared.folders.get(project.cells[0].id, folder)


@pytest.fixture(scope="module")
def image(project: Project, loans: Path, client: docker.DockerClient) -> Iterator[str]:
    subprocess.run(["docker", "build", "-q", "-t", BASE, "-"], input=STAND_IN, text=True, check=True)
    words = ["docker", "build", "-t", NAME, "-f", "ray/docker/2.9.3/Dockerfile.tf"]
    words += ["--build-arg", "processor=cpu", "--build-arg", "region=eu-west-1"]
    words += ["--build-context", f"buildhost={loans}", "."]
    done = subprocess.run(words, cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    yield NAME
    for name in (NAME, BASE):
        client.images.remove(name, force=True)


def run(image: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", "run", "--rm", image, *words], capture_output=True, text=True, check=False)


def test_the_documented_command_builds_for_another_region(image: str, client: docker.DockerClient) -> None:
    labels = client.images.get(image).labels
    assert labels["rlimages.cell"] == "ray-2.9.3-tf-cpu"
    assert labels["org.opencontainers.image.base.name"] == BASE


def test_the_packages_are_in_the_bases_own_interpreter(image: str) -> None:
    done = run(image, "python", "-c", "import sys, vowpalwabbit; print(sys.prefix)")
    assert (done.returncode, done.stdout) == (0, "/opt/base\n")


def test_no_compiler_gets_into_the_image(image: str) -> None:
    assert run(image, "gcc", "--version").returncode == 64
    assert "neither train, serve nor a program" in run(image, "gcc", "--version").stderr


def test_a_base_that_cannot_be_pulled_is_one_failure_of_one_cell(project: Project, tmp_path: Path) -> None:
    """Without the stand-in for this region, the build says which image it wanted."""
    words = ["docker", "build", "-f", "ray/docker/2.9.3/Dockerfile.tf", "--build-arg", "region=us-east-2", "."]
    done = subprocess.run(words, cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "763104351884.dkr.ecr.us-east-2.amazonaws.com/stand-in:1-cpu" in done.stderr
