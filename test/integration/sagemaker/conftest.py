"""Fixtures for training jobs on SageMaker, in the image of the ECR of `--aws-id`. Each job costs money."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import image_options
import local_mode
import pytest
import sagemaker_job
import sdk

RESOURCES = Path(__file__).resolve().parents[2] / "resources"


@pytest.fixture(autouse=True)
def no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in local_mode.no_telemetry(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def session(pytestconfig: pytest.Config) -> Iterator[Any]:
    """Return a session of the SDK in the region. Without AWS credentials, skip the test."""
    sdk.require_sdk()
    with sdk.ignore_warnings():
        aws = boto3.Session(region_name=pytestconfig.getoption("--region"))
        if aws.get_credentials() is None:
            # these tests start paid jobs; without an account they are skipped, and the summary counts them
            pytest.skip("did not apply: no AWS credentials")
        from sagemaker import Session

        yield Session(boto_session=aws)


@pytest.fixture
def job(session: Any, pytestconfig: pytest.Config) -> Callable[..., Mapping[str, Any]]:
    """Return a function that runs a script of test/resources as a job, which must complete, and returns its description."""

    def job(
        script: str,
        hyperparameters: Mapping[str, object],
        metrics: str | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        request = sagemaker_job.JobRequest(
            image=image_options.ecr_image(pytestconfig.getoption),
            role=pytestconfig.getoption("--role"),
            instance_type=image_options.instance_type(pytestconfig.getoption),
            script=RESOURCES / script,
            hyperparameters=hyperparameters,
            metrics=metrics,
        )
        name = sagemaker_job.new_name(script)
        with sagemaker_job.running_job(request, session, name, inputs):
            return sagemaker_job.wait_for_completion(session.sagemaker_client, name)

    return job
