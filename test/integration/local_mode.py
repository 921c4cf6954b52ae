"""Run a training job with the local mode of the SageMaker SDK, without AWS: no S3, no STS, no telemetry.

As a program, `local_mode.py JOB.json` runs one job. The SDK runs in its own process because it logs to the standard
output that it finds when it is imported, and because importing it emits many warnings.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import docker

NETWORK = "sagemaker-local"
"""Name of the network in the compose file of the SDK, which creates it and never removes it."""
FOLDER_LABEL = "com.docker.compose.project.working_dir"
SETTINGS = """
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_EC2_METADATA_DISABLED": "true",
}
ROLE = "arn:aws:iam::123456789012:role/none"
"""An ARN, because the SDK would look up a name in IAM."""


def no_telemetry(folder: Path) -> dict[str, str]:
    """Return the environment variables that turn off the telemetry of the SDK. Its settings are written to a folder."""
    settings = folder / "sagemaker.yaml"
    settings.write_text(SETTINGS)
    return {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}


def environment(folder: Path, region: str) -> dict[str, str]:
    """Return the environment of the program, with which the SDK uses this machine only."""
    return {**os.environ, **CREDENTIALS, **no_telemetry(folder), "AWS_DEFAULT_REGION": region}


def fit(
    *,
    image: str,
    entry_point: str,
    source_dir: str,
    output: str,
    hyperparameters: dict[str, Any],
    channels: dict[str, str],
    toolkit: str | None,
    instance_type: str,
) -> list[dict[str, str]]:
    """Train with `RLEstimator.fit` and return the metric definitions of the toolkit.

    `output` receives model.tar.gz and output.tar.gz. The containers keep their files in a folder beside it. All paths are
    absolute.
    """
    import boto3
    from sagemaker.local import LocalSession
    from sagemaker.rl import RLEstimator, RLToolkit

    session = LocalSession(boto_session=boto3.Session())
    session.config = {"local": {"local_code": True, "container_root": str(Path(output).parent)}}
    estimator = RLEstimator(
        image_uri=image,
        entry_point=entry_point,
        source_dir=source_dir,
        role=ROLE,
        instance_count=1,
        instance_type=instance_type,
        output_path=f"file://{output}",
        sagemaker_session=session,
        hyperparameters=hyperparameters,
        metric_definitions=RLEstimator.default_metric_definitions(RLToolkit[toolkit]) if toolkit else None,
    )
    estimator.fit({name: f"file://{path}" for name, path in channels.items()} or None)
    return estimator.metric_definitions or []


@contextmanager
def remove_leftovers(client: docker.DockerClient, folder: Path) -> Iterator[None]:
    """Remove the leftovers of the SDK: containers whose compose file is below a folder, and its network if it is new."""
    with (Path(gettempdir()) / f"{NETWORK}.lock").open("w") as lock:
        # All jobs of a machine share the name of the network, so only its single user may remove it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = client.networks.list(NETWORK)
        try:
            yield
        finally:
            _remove(client, folder, new_network=not before)


def _remove(client: docker.DockerClient, folder: Path, *, new_network: bool) -> None:
    for container in client.containers.list(all=True, filters={"label": FOLDER_LABEL}):
        if folder in Path(container.labels[FOLDER_LABEL]).parents:
            container.remove(force=True, v=True)
    for network in client.networks.list(NETWORK) if new_network else ():
        network.remove()


if __name__ == "__main__":
    job_file = Path(sys.argv[1])
    job_file.with_suffix(".metrics").write_text(json.dumps(fit(**json.loads(job_file.read_text()))))
