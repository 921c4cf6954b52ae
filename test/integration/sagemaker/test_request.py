"""What SageMaker is asked for, shown to a stand-in for AWS behind botocore: needs the SDK, but no credentials."""

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import sagemaker_job
import sdk
import wanted
from botocore.awsrequest import AWSResponse

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
ROLE = "arn:aws:iam::123456789012:role/trainer"
BUCKET = "a-bucket"
BUCKETS = f"<ListAllMyBucketsResult><Buckets><Bucket><Name>{BUCKET}</Name></Bucket></Buckets></ListAllMyBucketsResult>"
GZIP = b"\x1f\x8b"
NAME = "rlimages-test-1"


class Body(BytesIO):
    """A response's body as urllib3 hands it over."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Cloud:
    """Answers for AWS. What it is asked has passed botocore's own checks of each request."""

    def __init__(self) -> None:
        self.session: Any = None
        self.begin()

    def begin(self, *statuses: str) -> None:
        """Forget what was, and give a job these statuses, the last for good."""
        self.calls: list[tuple[str, Any]] = []
        self.uploads: list[bytes] = []
        self._statuses = list(statuses)

    def asked(self, operation: str) -> list[Any]:
        """What the requests of one kind said."""
        return [body for name, body in self.calls if name == operation]

    def answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        """In the place of the network: botocore's event `before-send`."""
        _, service, operation = event_name.split(".")
        if service == "s3":
            self.uploads.append(request.body.read() if hasattr(request.body, "read") else request.body or b"")
            text = BUCKETS if operation == "ListBuckets" else ""
        else:
            self.calls.append((operation, json.loads(request.body)))
            text = json.dumps(self._said(operation))
        return AWSResponse(request.url, 200, {}, Body(text.encode()))

    def _said(self, operation: str) -> dict[str, str]:
        if operation == "CreateTrainingJob":
            return {"TrainingJobArn": f"arn:aws:sagemaker:us-west-2:123456789012:training-job/{NAME}"}
        if operation == "DescribeTrainingJob":
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            return {"TrainingJobName": NAME, "TrainingJobStatus": status, "FailureReason": "the reward was no number"}
        return {}


@pytest.fixture(scope="module")
def only_cloud() -> Cloud:
    """Its clients take seconds to make: all tests share them."""
    sdk.need()
    cloud = Cloud()
    core = botocore.session.Session()
    core.set_credentials("none", "none")
    core.register("before-send", cloud.answer)
    with sdk.quiet():
        from sagemaker import Session

        aws = boto3.Session(botocore_session=core, region_name="us-west-2")
        cloud.session = Session(boto_session=aws, default_bucket=BUCKET)
    return cloud


@pytest.fixture
def cloud(only_cloud: Cloud) -> Iterator[Cloud]:
    only_cloud.begin("Completed")
    with sdk.quiet():
        yield only_cloud


@pytest.fixture
def order() -> sagemaker_job.Order:
    return sagemaker_job.Order(
        image="123456789012.dkr.ecr.us-west-2.amazonaws.com/custom-rl-coach-image:1.0",
        role=ROLE,
        instance_type="ml.m4.xlarge",
        script=RESOURCES / "ray" / "train_cartpole.py",
        hyperparameters={"rl.training.config.lr": 0.0005},
        metrics="RAY",
    )


def test_a_job_is_asked_for_as_ordered(cloud, order) -> None:
    with sagemaker_job.running(order, cloud.session, NAME, {"train": f"s3://{BUCKET}/train"}):
        sagemaker_job.completed(cloud.session.sagemaker_client, NAME, poll=0)
    (asked,) = cloud.asked("CreateTrainingJob")
    assert asked["TrainingJobName"] == NAME
    assert asked["AlgorithmSpecification"]["TrainingImage"] == order.image
    assert asked["RoleArn"] == ROLE
    assert asked["StoppingCondition"] == {"MaxRuntimeInSeconds": 900}
    resources = asked["ResourceConfig"]
    assert (resources["InstanceType"], resources["InstanceCount"]) == ("ml.m4.xlarge", 1)
    assert [channel["ChannelName"] for channel in asked["InputDataConfig"]] == ["train"]
    metrics = [metric["Name"] for metric in asked["AlgorithmSpecification"]["MetricDefinitions"]]
    assert metrics == ["episode_reward_mean", "episode_reward_max"]
    words = asked["HyperParameters"]
    assert words["rl.training.config.lr"] == "0.0005"
    assert words["sagemaker_program"] == '"train_cartpole.py"'
    assert words["sagemaker_estimator"] == '"RLEstimator"'


def test_the_scripts_folder_is_uploaded(cloud, order) -> None:
    with sagemaker_job.running(order, cloud.session, NAME):
        pass
    (archive,) = (body for body in map(unchunked, cloud.uploads) if body.startswith(GZIP))
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        assert "train_cartpole.py" in opened.getnames()
    (asked,) = cloud.asked("CreateTrainingJob")
    assert json.loads(asked["HyperParameters"]["sagemaker_submit_directory"]).startswith(f"s3://{BUCKET}/")


def unchunked(body: bytes) -> bytes:
    """What is in an upload that came with a trailing checksum: `SIZE\\r\\n…`."""
    size, newline, rest = body.partition(b"\r\n")
    return body if body.startswith(GZIP) or not newline else rest[: int(size, 16)]


@pytest.mark.parametrize("error", [AssertionError, KeyboardInterrupt])
def test_a_job_is_stopped_when_its_test_fails(cloud, order, error) -> None:
    cloud.begin("InProgress")
    with pytest.raises(error), sagemaker_job.running(order, cloud.session, NAME):
        raise error
    assert cloud.asked("StopTrainingJob") == [{"TrainingJobName": NAME}]


def test_a_job_that_takes_too_long_is_stopped(cloud, order) -> None:
    cloud.begin("InProgress")
    too_long = pytest.raises(AssertionError, match="still InProgress after 0 s")
    with too_long, sagemaker_job.running(order, cloud.session, NAME):
        sagemaker_job.completed(cloud.session.sagemaker_client, NAME, limit=0, poll=0)
    assert cloud.asked("StopTrainingJob")


def test_a_job_that_fails_says_why_and_is_not_stopped_again(cloud, order) -> None:
    cloud.begin("InProgress", "Failed")
    failed = pytest.raises(AssertionError, match="the reward was no number")
    with failed, sagemaker_job.running(order, cloud.session, NAME):
        sagemaker_job.completed(cloud.session.sagemaker_client, NAME, poll=0)
    assert not cloud.asked("StopTrainingJob")


def test_the_image_is_that_of_the_accounts_registry() -> None:
    options = {"--aws-id": "12345678910", "--docker-base-name": "custom-rl-coach-image", "--tag": "1.0"}
    words = {"--region": "cn-north-1", "--docker-image": None, **options}
    image = "12345678910.dkr.ecr.cn-north-1.amazonaws.com.cn/custom-rl-coach-image:1.0"
    assert wanted.ecr_image(words.get) == image
