"""Derive the image and the instance type of the integration tests from their options. Text in, text out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlimages.errors import FactoryError
from rlimages.matrix.cell import Cell
from rlimages.matrix.uri import ImageQuery, find_cell
from rlimages.project.project import load_project

ROOT = Path(__file__).resolve().parents[2]
MATRIX = ROOT / "build_matrix.yaml"
LATEST = {"coach tf": "0.11.1", "coach mxnet": "0.11.0", "ray tf": "1.6.0", "ray torch": "1.6.0", "vw": "8.7.0"}
"""The constants `COACH_LATEST_VERSION_TF` etc. of the SageMaker SDK 2.257, and VW, which the SDK does not have."""
INSTANCE_TYPES = {"cpu": "ml.c4.xlarge", "gpu": "ml.p2.xlarge"}

ReadOption = Callable[[str], str | None]
"""Returns the value of an option, like `config.getoption`."""


def image(read_option: ReadOption) -> str:
    """Return the image as `name:tag`. A missing name or tag is that of SageMaker's image of the toolkit and framework.

    Raise `pytest.UsageError` if SageMaker has published no such image.
    """
    reference, name, tag = read_option("--docker-image"), read_option("--docker-base-name"), read_option("--tag")
    if reference:
        return reference
    if not (name and tag):
        published = _find_published(read_option)
        name, tag = name or published.repository, tag or published.tag
    return f"{name}:{tag}"


def ecr_image(read_option: ReadOption) -> str:
    """Return the image in the ECR of `--aws-id` in `--region`, or `--docker-image` unchanged."""
    reference, account, region = read_option("--docker-image"), read_option("--aws-id"), str(read_option("--region"))
    if reference:
        return reference
    if not account:
        raise pytest.UsageError("give the AWS account that has the image in its ECR: --aws-id")
    accounts = load_project(MATRIX, ROOT).accounts
    return f"{account}.dkr.ecr.{region}.{accounts.domain(region)}/{image(read_option)}"


def instance_type(read_option: ReadOption) -> str:
    """Return the instance type of the jobs on SageMaker."""
    return read_option("--instance-type") or INSTANCE_TYPES[str(read_option("--processor"))]


def _find_published(read_option: ReadOption) -> Cell:
    toolkit = str(read_option("--toolkit"))
    project = load_project(MATRIX, ROOT)
    framework_name = read_option("--framework") or ("vw" if toolkit == "vw" else "tensorflow")
    framework = None if framework_name == "vw" else project.matrix.framework_name(framework_name)
    version = read_option("--toolkit-version") or LATEST.get(f"{toolkit} {framework or ''}".strip())
    query = ImageQuery(
        toolkit=toolkit,
        version=version,
        framework=framework,
        processor=str(read_option("--processor")),
        line="sagemaker",
        published=True,
    )
    try:
        return find_cell(project.cells, query)
    except FactoryError as error:
        raise pytest.UsageError(f"{error}; or name the image with --docker-base-name and --tag") from error
