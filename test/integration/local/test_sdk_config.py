"""What `rlimages sdk-config` writes, read by the SageMaker SDK itself: every image is found, in every region."""

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


def write(folder: Path, *words: str) -> None:
    verb = [sys.executable, "-m", "rlimages", "--matrix", "build_matrix.yaml", "sdk-config", "--output", folder, *words]
    ended = subprocess.run(verb, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def image_uris(tmp_path, monkeypatch):
    """The SDK's look-up, which reads `tmp_path` in the place of its own `image_uri_config`."""
    sdk.need()
    with sdk.quiet():
        from sagemaker import image_uris, utils

        def read(framework: str):
            return json.loads((tmp_path / f"{framework}.json").read_text())

        monkeypatch.setattr(image_uris, "config_for_framework", read)
        # it is the same each time, and takes a tenth of a second to read
        monkeypatch.setattr(utils, "_botocore_resolver", cache(utils._botocore_resolver))
        yield image_uris


@pytest.fixture
def cells(pytestconfig):
    toolkit = pytestconfig.getoption("--toolkit")
    return [cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells if toolkit in ("none", cell.toolkit)]


def called(cell: Cell) -> tuple[str, str]:
    """Toolkit and version, as the SDK is asked for a cell."""
    frameworks = {"tf": "tensorflow", "torch": "pytorch", "mxnet": "mxnet"}
    name = f"{cell.toolkit}-{frameworks[cell.framework.name]}" if cell.framework else cell.toolkit
    return name, cell.version if cell.line == "sagemaker" else f"{cell.version}-{cell.line}"


def test_the_sdk_finds_every_image_of_an_account_in_every_region(image_uris, cells, tmp_path) -> None:
    accounts = load_project(ROOT / "build_matrix.yaml", ROOT).accounts
    regions = sorted(accounts.tables["deep-learning-containers"])
    write(tmp_path, "--account", ACCOUNT, *(word for region in regions for word in ("--region", region)))
    wrong = []
    for cell in cells:
        name, version = called(cell)
        for region in regions:
            instance = INSTANCES[cell.processor.value]
            found = image_uris.retrieve(name, region, version=version, instance_type=instance)
            host = f"{ACCOUNT}.dkr.ecr.{region}.{accounts.domain(region)}"
            if found != f"{host}/{cell.local_name}":
                wrong.append((cell.id, region, found))
    assert not wrong


def test_for_what_sagemaker_published_we_write_what_the_sdk_has(image_uris, cells, tmp_path) -> None:
    write(tmp_path)
    shipped = Path(image_uris.__file__).parent / "image_uri_config"
    for name in {called(cell)[0] for cell in cells if cell.registry}:
        ours, theirs = (json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, shipped))
        assert ours == theirs


def test_the_sdk_refuses_a_processor_for_which_there_is_no_image(image_uris, cells, tmp_path) -> None:
    write(tmp_path, "--account", ACCOUNT)
    known = {(*called(cell), cell.processor.value) for cell in cells}
    alone = sorted({(name, version) for name, version, _ in known if (name, version, "gpu") not in known})
    for name, version in alone:
        with pytest.raises(ValueError, match="Unsupported processor: gpu"):
            image_uris.retrieve(name, "us-west-2", version=version, instance_type=INSTANCES["gpu"])
