"""The documented commands of the integration tests mean what the documentation says."""

import argparse
import importlib.util
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))
import image_options

CONFTEST = Path(__file__).resolve().parents[2] / "conftest.py"
LOCAL = "test/integration/local --toolkit coach --docker-base-name custom-rl-coach-image --tag 1.0 --processor cpu"
SAGEMAKER = (
    "test/integration/sagemaker --toolkit coach --aws-id 12345678910 --docker-base-name custom-rl-coach-image"
    " --instance-type ml.m4.xlarge --tag 1.0"
)
ECR = "12345678910.dkr.ecr.us-west-2.amazonaws.com/custom-rl-coach-image:1.0"


class Group:
    """What pytest gives to `pytest_addoption`, for as much as that asks: options are argparse's."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(exit_on_error=False)
        self.parser.add_argument("paths", nargs="*")

    def getgroup(self, name: str, description: str) -> "Group":
        return self

    def addoption(self, *names: str, **words: object) -> None:
        self.parser.add_argument(*names, **words)


@pytest.fixture
def group() -> Group:
    spec = importlib.util.spec_from_file_location("options", CONFTEST)
    options = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(options)
    group = Group()
    options.pytest_addoption(group)
    return group


@pytest.fixture
def option(group):
    """Reads a command line as pytest would: a function from an option to its value."""

    def option(line: str) -> image_options.ReadOption:
        found = vars(group.parser.parse_args(shlex.split(line)))
        return lambda name: found[name.lstrip("-").replace("-", "_")]

    return option


def test_the_documented_local_command_names_its_image(option) -> None:
    assert image_options.image(option(LOCAL)) == "custom-rl-coach-image:1.0"


def test_the_documented_sagemaker_command_names_its_image_and_instance(option) -> None:
    asked = option(SAGEMAKER)
    assert (image_options.ecr_image(asked), image_options.instance_type(asked)) == (ECR, "ml.m4.xlarge")
    assert asked("--role") == "SageMakerContainerBuildIntegrationTests"


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("--toolkit coach", "sagemaker-rl-tensorflow:coach0.11.1-cpu-py3"),
        ("--toolkit coach --framework mxnet", "sagemaker-rl-mxnet:coach0.11.0-cpu-py3"),
        ("--toolkit ray --processor gpu", "sagemaker-rl-ray-container:ray-1.6.0-tf-gpu-py37"),
        ("--toolkit ray --framework torch", "sagemaker-rl-ray-container:ray-1.6.0-torch-cpu-py36"),
        ("--toolkit ray --toolkit-version 0.6.5", "sagemaker-rl-tensorflow:ray0.6.5-cpu-py3"),
        ("--toolkit vw", "sagemaker-rl-vw-container:vw-8.7.0-cpu"),
        ("--toolkit vw --framework vw --tag mine", "sagemaker-rl-vw-container:mine"),
        ("--toolkit ray --docker-base-name mine", "mine:ray-1.6.0-tf-cpu-py37"),
        ("--toolkit none --docker-image a.example/b:c --tag d", "a.example/b:c"),
    ],
)
def test_what_is_not_said_is_that_of_sagemakers_own_image(option, line, image) -> None:
    assert image_options.image(option(line)) == image


def test_a_version_that_was_never_published_needs_a_name(option) -> None:
    with pytest.raises(
        pytest.UsageError, match=r"no matching image has the version '9', only .*--docker-base-name and --tag"
    ):
        image_options.image(option("--toolkit ray --toolkit-version 9"))


def test_the_tests_on_sagemaker_need_an_account(option) -> None:
    with pytest.raises(pytest.UsageError, match="--aws-id"):
        image_options.ecr_image(option("--toolkit vw"))


def test_an_instance_type_fits_the_processor(option) -> None:
    found = [image_options.instance_type(option(f"--processor {name}")) for name in ("cpu", "gpu")]
    assert found == ["ml.c4.xlarge", "ml.p2.xlarge"]


def test_each_option_is_explained(group) -> None:
    mine = [action for action in group.parser._actions if action.dest not in ("help", "paths")]
    assert len(mine) == 11
    assert all(action.help for action in mine)
