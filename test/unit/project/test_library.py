"""Which files of the in-image library the images of a toolkit get."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlimages.matrix.cell import Cell
from rlimages.project.library import library_names
from rlimages.project.render import Renderer, group_by_dockerfile

ROOT = Path(__file__).resolve().parents[3]
TOOLKITS = ("fox", "fox_terrier", "owl")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "src/sagemaker_rl"
    for name in ("serving", "fox", "fox_terrier", "notes", "__pycache__"):
        (folder / name).mkdir(parents=True)
    for name in ("serving", "fox", "fox_terrier"):
        (folder / name / "__init__.py").touch()
    for name in ("__init__.py", "job.py", "fox_launcher.py", "fox_terrier_launcher.py", "foxes.py", ".job.py.swp"):
        (folder / name).touch()
    return tmp_path


def test_a_toolkit_gets_the_common_files_and_its_own(root: Path) -> None:
    common = {"__init__.py", "foxes.py", "job.py", "serving"}
    assert set(library_names(root, "fox", TOOLKITS)) == common | {"fox", "fox_launcher.py"}
    assert set(library_names(root, "fox_terrier", TOOLKITS)) == common | {"fox_terrier", "fox_terrier_launcher.py"}


def test_a_toolkit_without_files_of_its_own_gets_the_common_ones(root: Path) -> None:
    assert library_names(root, "owl", TOOLKITS) == ("__init__.py", "foxes.py", "job.py", "serving")


def test_a_project_without_the_library_has_none_to_give(tmp_path: Path) -> None:
    assert library_names(tmp_path, "owl", TOOLKITS) == ()


@pytest.mark.parametrize("names", [(), ("job.py", "serving")])
def test_a_dockerfile_mounts_each_name_that_there_is(cell: Cell, names: tuple[str, ...]) -> None:
    renderer = Renderer([ROOT / "templates"], {}, {"uv": "1"}, library={cell.toolkit: names} if names else {})
    (dockerfile,) = group_by_dockerfile((cell,))
    text = renderer.render(dockerfile)
    mounts = [f"--mount=type=bind,source=src/sagemaker_rl/{n},target=/run/build/library/{n} " for n in names]
    assert text.count("src/sagemaker_rl") == len(names)
    assert all(mount in text for mount in mounts)


def test_only_the_host_package_is_installed() -> None:
    program = (
        "import runpy, setuptools\n"
        "setuptools.setup = lambda **facts: print(*facts['packages'])\n"
        "runpy.run_path('setup.py')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = done.stdout.split()
    assert "rlimages" in packages
    assert {name.partition(".")[0] for name in packages} == {"rlimages"}
