"""The options of the integration tests. `pytest --help` shows them in a group."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("integration", "integration tests: image and place of the jobs")
    group.addoption(
        "--toolkit",
        choices=["coach", "ray", "vw", "none"],
        help="Toolkit of the image; the tests of the others are deselected.",
    )
    group.addoption(
        "--toolkit-version",
        metavar="VERSION",
        help="Toolkit version, to find the image; by default the latest version of RLEstimator.",
    )
    group.addoption(
        "--framework",
        choices=["tensorflow", "mxnet", "torch", "vw"],
        help="Framework, to find the image; by default tensorflow, and vw for the toolkit vw.",
    )
    group.addoption(
        "--processor", choices=["cpu", "gpu"], default="cpu", help="Processor of the image; by default cpu."
    )
    group.addoption(
        "--docker-base-name",
        metavar="REPOSITORY",
        help="Image name without the tag; by default that of SageMaker's own image.",
    )
    group.addoption("--tag", help="Image tag; by default that of SageMaker's own image.")
    group.addoption(
        "--docker-image", metavar="REFERENCE", help="Complete reference of the image; it replaces name and tag."
    )
    group.addoption(
        "--aws-id", metavar="ACCOUNT", help="AWS account whose ECR has the image, for the tests on SageMaker."
    )
    group.addoption("--region", default="us-west-2", help="AWS region; by default us-west-2.")
    group.addoption(
        "--role",
        default="SageMakerContainerBuildIntegrationTests",
        help="IAM role of the jobs on AWS, a name or an ARN; by default SageMakerContainerBuildIntegrationTests.",
    )
    group.addoption(
        "--instance-type",
        metavar="TYPE",
        help="Instance type of the jobs on AWS; by default ml.c4.xlarge, and ml.p2.xlarge for gpu.",
    )
