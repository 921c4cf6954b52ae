"""The SageMaker SDK reads the files of `rlimages sdk-config` and finds every image in every region."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import sdk

from rlimages.matrix.cell import Cell
from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "123456789012"
INSTANCES = {"cpu": "ml.c5.xlarge", "gpu": "ml.g4dn.xlarge"}


def write_config(folder: Path, *arguments: str) -> None:
    argv = [
        sys.executable,
        "-m",
        "rlimages",
        "--matrix",
        "build_matrix.yaml",
        "sdk-config",
        "--output",
        folder,
        *arguments,
    ]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def image_uris(tmp_path, monkeypatch):
    """Return the module of the SDK that looks up images. It reads `tmp_path` instead of its own `image_uri_config`."""
    sdk.require_sdk()
    with sdk.ignore_warnings():
        from sagemaker import image_uris, utils

        def read(framework: str):
            return json.loads((tmp_path / f"{framework}.json").read_text())

        monkeypatch.setattr(image_uris, "config_for_framework", read)
        # the resolver is always the same, and reading it takes a tenth of a second
        monkeypatch.setattr(utils, "_botocore_resolver", cache(utils._botocore_resolver))
        yield image_uris


@pytest.fixture
def cells(pytestconfig):
    toolkit = pytestconfig.getoption("--toolkit")
    return [cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells if toolkit in ("none", cell.toolkit)]


def sdk_name(cell: Cell) -> tuple[str, str]:
    """Return the framework name and version under which the SDK looks up a cell."""
    frameworks = {"tf": "tensorflow", "torch": "pytorch", "mxnet": "mxnet"}
    name = f"{cell.toolkit}-{frameworks[cell.framework.name]}" if cell.framework else cell.toolkit
    return name, cell.version if cell.line == "sagemaker" else f"{cell.version}-{cell.line}"


def test_the_sdk_finds_every_image_of_an_account_in_every_region(image_uris, cells, tmp_path) -> None:
    accounts = load_project(ROOT / "build_matrix.yaml", ROOT).accounts
    regions = sorted(accounts.tables["deep-learning-containers"])
    write_config(tmp_path, "--account", ACCOUNT, *(argument for region in regions for argument in ("--region", region)))
    wrong = []
    for cell in cells:
        name, version = sdk_name(cell)
        for region in regions:
            instance = INSTANCES[cell.processor.value]
            uri = image_uris.retrieve(name, region, version=version, instance_type=instance)
            host = f"{ACCOUNT}.dkr.ecr.{region}.{accounts.domain(region)}"
            if uri != f"{host}/{cell.local_name}":
                wrong.append((cell.id, region, uri))
    assert not wrong


def test_the_files_for_published_images_equal_those_of_the_sdk(image_uris, cells, tmp_path) -> None:
    write_config(tmp_path)
    sdk_folder = Path(image_uris.__file__).parent / "image_uri_config"
    for name in {sdk_name(cell)[0] for cell in cells if cell.registry}:
        written_config, sdk_config = (
            json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, sdk_folder)
        )
        assert written_config == sdk_config


def test_the_sdk_refuses_a_processor_without_an_image(image_uris, cells, tmp_path) -> None:
    write_config(tmp_path, "--account", ACCOUNT)
    images = {(*sdk_name(cell), cell.processor.value) for cell in cells}
    cpu_only = sorted({(name, version) for name, version, _ in images if (name, version, "gpu") not in images})
    for name, version in cpu_only:
        with pytest.raises(ValueError, match="Unsupported processor: gpu"):
            image_uris.retrieve(name, "us-west-2", version=version, instance_type=INSTANCES["gpu"])
