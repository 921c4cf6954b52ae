"""Build a Dockerfile of SageMaker's line with the documented command, on a local base image.

The framework images of ECR need an AWS account. Their replacement is Debian with its own interpreter. The tests show
that the Dockerfile's own steps (packages, wheels of the lock, entrypoint, labels) work; they do not test the real base.
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
IMAGE = "rlimages-local-base"
BASE = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/local-base:1-cpu"
BASE_DOCKERFILE = """
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -qy --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/base
ENV PATH=/opt/base/bin:$PATH
"""


def matrix_with_local_base() -> str:
    """Return a matrix with Ray's Dockerfile and the few packages of VW 9, which are installed in a minute."""
    document = yaml.safe_load((ROOT / "build_matrix.yaml").read_text())
    vw_version = document["toolkits"]["vw"]["9.11.9"]
    (image,) = (image for image in vw_version["images"] if image["base"] == "debian-12")
    row = {
        "base": "local-base",
        "repository": "local-base",
        "tag": "local-base",
        "pip": image["pip"],
        "apt": {"run": ["tini"], "build": ["gcc", "libc6-dev", "python3-dev"]},
    }
    base = {
        "registry": "deep-learning-containers",
        "image": {"cpu": "local-base:1-cpu"},
        "framework": {"name": "tf", "version": "2.13.0"},
        "os": "debian12",
        "python": "3.11",
    }
    document["bases"] = {"local-base": base}
    document["toolkits"] = {"ray": {"2.9.3": {"as_of": vw_version["as_of"], "images": [row]}}}
    return yaml.safe_dump(document, sort_keys=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient) -> Project:
    root = tmp_path_factory.mktemp("project")
    (root / "build_matrix.yaml").write_text(matrix_with_local_base())
    for folder in ("templates", "ray/rootfs", "src/sagemaker_rl"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / ".dockerignore", root)
    project = load_project(root / "build_matrix.yaml", root)
    list(write_generated(project))
    (lock_input,) = project.lock_inputs(project.cells)
    requirements = (ROOT / "vw/lock/vw-9.11.9-cpu-debian.txt").read_text()
    write_text(root / lock_input.cell.lock, lock_text(lock_input, requirements))
    return project


@pytest.fixture(scope="module")
def buildhost(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the certificates and wheels of this machine, as `rlimages build` passes it to a build."""
    folder = tmp_path_factory.mktemp("buildhost")
    contexts = prepare_contexts(
        folder,
        {cell.id: (project.root / cell.lock).read_text() for cell in project.cells},
        environ=os.environ,
        home=Path.home(),
    )
    return contexts.folders.get(project.cells[0].id, folder)


@pytest.fixture(scope="module")
def image(project: Project, buildhost: Path, client: docker.DockerClient) -> Iterator[str]:
    subprocess.run(["docker", "build", "-q", "-t", BASE, "-"], input=BASE_DOCKERFILE, text=True, check=True)
    command = ["docker", "build", "-t", IMAGE, "-f", "ray/docker/2.9.3/Dockerfile.tf"]
    command += ["--build-arg", "processor=cpu", "--build-arg", "region=eu-west-1"]
    command += ["--build-context", f"buildhost={buildhost}", "."]
    result = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    yield IMAGE
    for name in (IMAGE, BASE):
        client.images.remove(name, force=True)


def run(image: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True, check=False)


def test_the_documented_command_builds_for_another_region(image: str, client: docker.DockerClient) -> None:
    labels = client.images.get(image).labels
    assert labels["rlimages.cell"] == "ray-2.9.3-tf-cpu"
    assert labels["org.opencontainers.image.base.name"] == BASE


def test_packages_are_installed_for_the_interpreter_of_the_base(image: str) -> None:
    result = run(image, "python", "-c", "import sys, vowpalwabbit; print(sys.prefix)")
    assert (result.returncode, result.stdout) == (0, "/opt/base\n")


def test_the_image_has_no_compiler(image: str) -> None:
    assert run(image, "gcc", "--version").returncode == 64
    assert "neither train, serve nor a program" in run(image, "gcc", "--version").stderr


def test_the_error_names_a_base_image_that_cannot_be_pulled(project: Project, tmp_path: Path) -> None:
    """The local base replaces the image of one region only."""
    command = ["docker", "build", "-f", "ray/docker/2.9.3/Dockerfile.tf", "--build-arg", "region=us-east-2", "."]
    result = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "763104351884.dkr.ecr.us-east-2.amazonaws.com/local-base:1-cpu" in result.stderr
