"""A training job by the SageMaker SDK's local mode, with no AWS behind it: no S3, no STS, no telemetry.

As a program, one such job: `local_mode.py ORDER.json`. The SDK logs to whatever standard output was when it was
imported, and warns of much that is not ours: it gets a process of its own.
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
"""What the SDK's compose file calls the network; it makes it and leaves it there."""
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
"""A name in the place of an ARN would be looked up in IAM."""


def no_telemetry(folder: Path) -> dict[str, str]:
    """What keeps the SDK from reporting to its makers."""
    settings = folder / "sagemaker.yaml"
    settings.write_text(SETTINGS)
    return {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}


def environment(folder: Path, region: str) -> dict[str, str]:
    """That of the program: what keeps the SDK on this machine."""
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
    """Train by `RLEstimator.fit`; `output` gets model.tar.gz and output.tar.gz. The metric definitions of the toolkit.

    Containers keep their files in a folder beside `output`; both are absolute paths.
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
def nothing_left(client: docker.DockerClient, folder: Path) -> Iterator[None]:
    """Take away what the SDK leaves: containers whose compose file is below a folder, and a network that is new."""
    with (Path(gettempdir()) / f"{NETWORK}.lock").open("w") as lock:
        # The SDK's network has one name on a machine: whoever removes it must be the only one who uses it.
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
    order = Path(sys.argv[1])
    order.with_suffix(".metrics").write_text(json.dumps(fit(**json.loads(order.read_text()))))
