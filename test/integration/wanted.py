"""What the options of the integration tests mean: an image, and where it runs. Words in, words out."""

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
"""`COACH_LATEST_VERSION_TF` and its like in the SageMaker SDK 2.257, which has no toolkit VW."""
INSTANCE_TYPES = {"cpu": "ml.c4.xlarge", "gpu": "ml.p2.xlarge"}

Options = Callable[[str], str | None]
"""The value of an option, as `config.getoption` gives it."""


def image(option: Options) -> str:
    """`name:tag`. What is not said is that of the image which SageMaker published for the toolkit and framework.

    Raises `FactoryError` where there is none.
    """
    whole, name, tag = option("--docker-image"), option("--docker-base-name"), option("--tag")
    if whole:
        return whole
    if not (name and tag):
        published = _published(option)
        name, tag = name or published.repository, tag or published.tag
    return f"{name}:{tag}"


def ecr_image(option: Options) -> str:
    """The same image in the ECR of `--aws-id`, in `--region`; `--docker-image` as it stands."""
    whole, account, region = option("--docker-image"), option("--aws-id"), str(option("--region"))
    if whole:
        return whole
    if not account:
        raise pytest.UsageError("say which AWS account has the image in its ECR: --aws-id")
    accounts = load_project(MATRIX, ROOT).accounts
    return f"{account}.dkr.ecr.{region}.{accounts.domain(region)}/{image(option)}"


def instance_type(option: Options) -> str:
    """The instance type of the jobs on AWS."""
    return option("--instance-type") or INSTANCE_TYPES[str(option("--processor"))]


def _published(option: Options) -> Cell:
    toolkit = str(option("--toolkit"))
    project = load_project(MATRIX, ROOT)
    spoken = option("--framework") or ("vw" if toolkit == "vw" else "tensorflow")
    framework = None if spoken == "vw" else project.matrix.framework_name(spoken)
    version = option("--toolkit-version") or LATEST.get(f"{toolkit} {framework or ''}".strip())
    question = ImageQuery(
        toolkit=toolkit,
        version=version,
        framework=framework,
        processor=str(option("--processor")),
        line="sagemaker",
        published=True,
    )
    try:
        return find_cell(project.cells, question)
    except FactoryError as error:
        raise pytest.UsageError(f"{error}; or name the image with --docker-base-name and --tag") from error
