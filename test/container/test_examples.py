"""The examples: images that extend the Debian cells of the local store. They are built, checked and trained."""

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
    """A copy of an example whose images have other names than those of the original."""

    def __init__(self, folder: Path, name: str) -> None:
        shutil.copytree(ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".rlimages"))
        matrix = folder / "build_matrix.yaml"
        text = matrix.read_text().replace("../../build_matrix.yaml", str(ROOT / "build_matrix.yaml"))
        matrix.write_text(text.replace("repository: my-", "repository: rlimages-test-"))
        self.folder = folder
        self.cell = next(cell for cell in load_project(matrix, folder).cells if cell.line == "debian")

    def rlimages(self, *arguments: str) -> tuple[int, str]:
        """Run the command line in the example, and return the exit code and the output."""
        argv = [sys.executable, "-m", "rlimages", *arguments]
        result = subprocess.run(
            argv, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return result.returncode, result.stdout

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a program in the image, with the checks of the example at /checks; return exit code and output."""
        checks = f"{self.folder / self.cell.toolkit / 'smoke'}:/checks:ro"
        argv = ["docker", "run", "--rm", "--network=none", "-v", checks, self.cell.local_name, *arguments]
        result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return result.returncode, result.stdout


@pytest.fixture(scope="module", params=["unity", "corridor"])
def example(request, client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory):
    example = Example(tmp_path_factory.mktemp("example") / request.param, request.param)
    code, output = example.rlimages("build", "--select", example.cell.id)
    assert code == 0, output
    yield example
    client.images.remove(example.cell.local_name, force=True)


def test_a_derived_image_passes_its_own_checks(example: Example) -> None:
    for program in (example.folder / example.cell.toolkit / "smoke").glob("check_*.py"):
        code, output = example.run("python", f"/checks/{program.name}")
        assert code == 0, output


def test_a_derived_image_has_the_entrypoint_of_its_parent(example: Example) -> None:
    code, output = example.run("no-such-program")
    assert (code, "neither train, serve nor a program" in output) == (64, True)


def test_a_derived_image_keeps_all_packages_of_its_parent(example: Example, client: docker.DockerClient) -> None:
    """The derived image has each package of its parent in the same version."""
    _, derived_packages = example.run("pip", "freeze", "--all")
    parent_packages = client.containers.run(example.cell.base.image, ["pip", "freeze", "--all"], remove=True).decode()
    assert set(parent_packages.splitlines()) <= set(derived_packages.splitlines())


@pytest.mark.parametrize("example", ["corridor"], indirect=True)
def test_a_script_trains_in_the_environment_of_the_derived_image(example: Example) -> None:
    arguments = ["--entry-point", "train.py", "--source-dir", "src", "--output", "results"]
    limits = ["-p", "rl.training.stop.training_iteration=1", "-p", "rl.training.config.env_config.length=3"]
    code, output = example.rlimages("train", example.cell.id, *arguments, *limits)
    assert (code, "Completed after" in output) == (0, True), output[-4000:]
    with tarfile.open(example.folder / "results" / "model.tar.gz") as archive:
        assert "params.json" in archive.getnames()


@pytest.mark.parametrize("example", ["unity"], indirect=True)
def test_a_unity_script_fails_only_because_the_game_is_missing(example: Example) -> None:
    """The script reports the missing game with its own message."""
    (example.folder / "no-game").mkdir(exist_ok=True)
    arguments = [
        "--entry-point",
        "train.py",
        "--source-dir",
        "src",
        "--channel",
        "train=no-game",
        "--output",
        "results",
    ]
    code, _ = example.rlimages("train", example.cell.id, *arguments)
    assert code == 1
    reason = (example.folder / "results" / "failure").read_text()
    assert "/opt/ml/input/data/train/Basic: the game does not exist or is not executable" in reason
