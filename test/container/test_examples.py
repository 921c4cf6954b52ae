"""The examples are built on the open cells of the local store, keep what those promise, and train."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import docker
import pytest

from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[2]


class Example:
    """A copy of an example, whose images have names of their own."""

    def __init__(self, folder: Path, name: str) -> None:
        shutil.copytree(ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".rlimages"))
        matrix = folder / "build_matrix.yaml"
        text = matrix.read_text().replace("../../build_matrix.yaml", str(ROOT / "build_matrix.yaml"))
        matrix.write_text(text.replace("repository: my-", "repository: rlimages-test-"))
        self.folder = folder
        self.cell = next(cell for cell in load_project(matrix, folder).cells if cell.line == "debian")

    def rlimages(self, *words: str) -> tuple[int, str]:
        """Exit code and what was said."""
        argv = [sys.executable, "-m", "rlimages", *words]
        done = subprocess.run(
            argv, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout

    def run(self, *words: str) -> tuple[int, str]:
        """A program in its image, with its own checks at /checks."""
        checks = f"{self.folder / self.cell.toolkit / 'smoke'}:/checks:ro"
        argv = ["docker", "run", "--rm", "--network=none", "-v", checks, self.cell.local_name, *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout


@pytest.fixture(scope="module", params=["unity", "corridor"])
def example(request, client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory):
    example = Example(tmp_path_factory.mktemp("example") / request.param, request.param)
    code, said = example.rlimages("build", "--select", example.cell.id)
    assert code == 0, said
    yield example
    client.images.remove(example.cell.local_name, force=True)


def test_a_derived_image_passes_its_own_check(example: Example) -> None:
    for program in (example.folder / example.cell.toolkit / "smoke").glob("check_*.py"):
        code, said = example.run("python", f"/checks/{program.name}")
        assert code == 0, said


def test_a_derived_image_has_its_parents_entrypoint(example: Example) -> None:
    code, said = example.run("no-such-program")
    assert (code, "neither train, serve nor a program" in said) == (64, True)


def test_nothing_of_the_parent_is_replaced(example: Example, client: docker.DockerClient) -> None:
    """What the parent's lock pins is what the derived image has."""
    _, own = example.run("pip", "freeze", "--all")
    parent = client.containers.run(example.cell.base.image, ["pip", "freeze", "--all"], remove=True).decode()
    assert set(parent.splitlines()) <= set(own.splitlines())


@pytest.mark.parametrize("example", ["corridor"], indirect=True)
def test_a_script_trains_in_the_images_own_environment(example: Example) -> None:
    words = ["--entry-point", "train.py", "--source-dir", "src", "--output", "results"]
    few = ["-p", "rl.training.stop.training_iteration=1", "-p", "rl.training.config.env_config.length=3"]
    code, said = example.rlimages("train", example.cell.id, *words, *few)
    assert (code, "Completed after" in said) == (0, True), said[-4000:]
    with tarfile.open(example.folder / "results" / "model.tar.gz") as archive:
        assert "params.json" in archive.getnames()


@pytest.mark.parametrize("example", ["unity"], indirect=True)
def test_a_unity_script_gets_as_far_as_the_game(example: Example) -> None:
    """No game is here: the script says so, in words of its own."""
    (example.folder / "no-game").mkdir(exist_ok=True)
    words = ["--entry-point", "train.py", "--source-dir", "src", "--channel", "train=no-game", "--output", "results"]
    code, _ = example.rlimages("train", example.cell.id, *words)
    assert code == 1
    reason = (example.folder / "results" / "failure").read_text()
    assert "/opt/ml/input/data/train/Basic: there is no such game, or it is not executable" in reason
