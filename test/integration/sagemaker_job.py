"""One training job on SageMaker from its order to its end: it never outlives the test that started it."""

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 15 * 60
"""Seconds that a job may take, its start on SageMaker included; also its MaxRuntimeInSeconds."""
POLL = 10.0
ENDED = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What SageMaker is asked for."""

    image: str
    role: str
    instance_type: str
    script: Path
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    metrics: str | None = None
    """Name of a toolkit whose metric definitions the SDK knows."""


def new_name(script: str) -> str:
    """A job's name that no other has: `rlimages-test-ray-train-cartpole-1a2b3c4d`."""
    words = "-".join(re.findall("[a-z0-9]+", script.removesuffix(".py")))
    return f"rlimages-test-{words}-{uuid.uuid4().hex[:8]}"


def estimator(order: Order, session: Any) -> Any:
    """The SDK's estimator for an order. Its folder becomes the job's /opt/ml/code."""
    from sagemaker.rl import RLEstimator, RLToolkit

    metrics = RLEstimator.default_metric_definitions(RLToolkit[order.metrics]) if order.metrics else None
    return RLEstimator(
        image_uri=order.image,
        entry_point=order.script.name,
        source_dir=str(order.script.parent),
        role=order.role,
        instance_count=1,
        instance_type=order.instance_type,
        max_run=LIMIT,
        sagemaker_session=session,
        hyperparameters=dict(order.hyperparameters),
        metric_definitions=metrics,
        debugger_hook_config=False,
        disable_profiler=True,
    )


@contextmanager
def running(order: Order, session: Any, name: str, inputs: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start a job, and stop it at the end, however that comes; its name."""
    job = estimator(order, session)
    try:
        job.fit(dict(inputs) if inputs else None, wait=False, job_name=name)
        yield name
    finally:
        _stop(session.sagemaker_client, name)


def completed(client: Any, name: str, *, limit: float = LIMIT, poll: float = POLL) -> Mapping[str, Any]:
    """Wait for a job to complete and return its description.

    Raises `AssertionError` with SageMaker's reason when it ends in any other way, or does not end in `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while True:
        job: Mapping[str, Any] = client.describe_training_job(TrainingJobName=name)
        status = job["TrainingJobStatus"]
        if status in ENDED:
            assert status == "Completed", f"{name}: {status}: {job.get('FailureReason', 'no reason given')}"
            return job
        assert time.monotonic() < deadline, f"{name}: still {status} after {limit:.0f} s"
        time.sleep(poll)


def _stop(client: Any, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        status = client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        if status not in (*ENDED, "Stopping"):
            client.stop_training_job(TrainingJobName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException":  # there is no such job, or it ended meanwhile
            raise
