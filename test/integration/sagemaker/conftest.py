"""Training jobs on SageMaker, in the image of `--aws-id`'s ECR. Each costs money, and is stopped at its end."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import local_mode
import pytest
import sagemaker_job
import sdk
import wanted

RESOURCES = Path(__file__).resolve().parents[2] / "resources"


@pytest.fixture(autouse=True)
def no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local_mode.no_telemetry(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def session(pytestconfig: pytest.Config) -> Iterator[Any]:
    """The SDK's session in the region, with real credentials. Skips the test, by name, where there are none."""
    sdk.need()
    with sdk.quiet():
        aws = boto3.Session(region_name=pytestconfig.getoption("--region"))
        if aws.get_credentials() is None:
            # these start paid jobs: who has no account runs the rest, and the summary counts what did not apply
            pytest.skip("did not apply: no AWS credentials")
        from sagemaker import Session

        yield Session(boto_session=aws)


@pytest.fixture
def job(session: Any, pytestconfig: pytest.Config) -> Callable[..., Mapping[str, Any]]:
    """Runs a script of test/resources as a job that must complete; its description."""

    def job(
        script: str,
        hyperparameters: Mapping[str, object],
        metrics: str | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        order = sagemaker_job.Order(
            image=wanted.ecr_image(pytestconfig.getoption),
            role=pytestconfig.getoption("--role"),
            instance_type=wanted.instance_type(pytestconfig.getoption),
            script=RESOURCES / script,
            hyperparameters=hyperparameters,
            metrics=metrics,
        )
        name = sagemaker_job.new_name(script)
        with sagemaker_job.running(order, session, name, inputs):
            return sagemaker_job.completed(session.sagemaker_client, name)

    return job
