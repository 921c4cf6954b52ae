"""The SBOM of a real image, compared with what dpkg and pip list."""

import json
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from rlimages.supplychain.sbom import image_sbom

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "sagemaker-rl-vw-container:vw-9.11.9-cpu-py311-debian12"


@pytest.fixture(scope="module")
def local_image(client):
    if not client.images.list(IMAGE):
        pytest.fail(f"there is no {IMAGE} in the local store; run: rlimages build --select 'vw-9.11.9-cpu-debian'")
    return IMAGE


@pytest.fixture
def describe(local_image, engine, tmp_path):
    def describe() -> str:
        return image_sbom(engine.inspect(local_image), "python3", engine, root=ROOT, folder=tmp_path)

    return describe


def run_in_image(image: str, *argv: str) -> list[str]:
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint", argv[0], image, *argv[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_sbom_is_valid_cyclonedx_and_always_the_same(describe) -> None:
    text = describe()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert describe() == text


def test_an_sbom_has_all_packages_of_dpkg_and_pip(describe, local_image) -> None:
    components = [entry for entry in json.loads(describe())["components"] if "purl" in entry]
    debian_packages = {entry["name"] for entry in components if entry["purl"].startswith("pkg:deb/debian/")}
    assert debian_packages == set(run_in_image(local_image, "dpkg-query", "--show", "--showformat=${Package}\n"))
    python_packages = {
        (entry["name"], entry["version"]) for entry in components if entry["purl"].startswith("pkg:pypi/")
    }
    listed_packages = json.loads(" ".join(run_in_image(local_image, "python3", "-m", "pip", "list", "--format=json")))
    assert {(entry["name"], entry["version"]) for entry in listed_packages} <= python_packages
