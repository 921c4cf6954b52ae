"""Run a training job on SageMaker. It is always stopped at the end of its test."""

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 15 * 60
"""Seconds that a job may take, including its start on SageMaker; also its MaxRuntimeInSeconds."""
POLL_SECONDS = 10.0
FINAL_STATUSES = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """The options of a job."""

    image: str
    role: str
    instance_type: str
    script: Path
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    metrics: str | None = None
    """Name of a toolkit for which the SDK has metric definitions."""


def new_name(script: str) -> str:
    """Return a unique job name, such as `rlimages-test-ray-train-cartpole-1a2b3c4d`."""
    script_name = "-".join(re.findall("[a-z0-9]+", script.removesuffix(".py")))
    return f"rlimages-test-{script_name}-{uuid.uuid4().hex[:8]}"


def estimator(request: JobRequest, session: Any) -> Any:
    """Return the estimator of the SDK for a job. The folder of the script becomes /opt/ml/code."""
    from sagemaker.rl import RLEstimator, RLToolkit

    metrics = RLEstimator.default_metric_definitions(RLToolkit[request.metrics]) if request.metrics else None
    return RLEstimator(
        image_uri=request.image,
        entry_point=request.script.name,
        source_dir=str(request.script.parent),
        role=request.role,
        instance_count=1,
        instance_type=request.instance_type,
        max_run=LIMIT_SECONDS,
        sagemaker_session=session,
        hyperparameters=dict(request.hyperparameters),
        metric_definitions=metrics,
        debugger_hook_config=False,
        disable_profiler=True,
    )


@contextmanager
def running_job(request: JobRequest, session: Any, name: str, inputs: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start a job and yield its name. Stop the job at the end, also after an exception."""
    job = estimator(request, session)
    try:
        job.fit(dict(inputs) if inputs else None, wait=False, job_name=name)
        yield name
    finally:
        _stop(session.sagemaker_client, name)


def wait_for_completion(
    client: Any, name: str, *, limit: float = LIMIT_SECONDS, poll: float = POLL_SECONDS
) -> Mapping[str, Any]:
    """Wait until a job is completed, and return its description.

    Raise `AssertionError` with the reason of SageMaker if it fails or is stopped, or if it runs longer than `limit`
    seconds.
    """
    deadline = time.monotonic() + limit
    while True:
        job: Mapping[str, Any] = client.describe_training_job(TrainingJobName=name)
        status = job["TrainingJobStatus"]
        if status in FINAL_STATUSES:
            assert status == "Completed", f"{name}: {status}: {job.get('FailureReason', 'no reason given')}"
            return job
        assert time.monotonic() < deadline, f"{name}: still {status} after {limit:.0f} s"
        time.sleep(poll)


def _stop(client: Any, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        status = client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        if status not in (*FINAL_STATUSES, "Stopping"):
            client.stop_training_job(TrainingJobName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":  # there is no such job, or it has ended
            raise
