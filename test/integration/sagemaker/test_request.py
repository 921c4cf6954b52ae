"""The requests to SageMaker, answered by a fake AWS behind botocore. These tests need the SDK but no credentials."""

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import image_options
import pytest
import sagemaker_job
import sdk
from botocore.awsrequest import AWSResponse

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
ROLE = "arn:aws:iam::123456789012:role/trainer"
BUCKET = "a-bucket"
BUCKETS = f"<ListAllMyBucketsResult><Buckets><Bucket><Name>{BUCKET}</Name></Bucket></Buckets></ListAllMyBucketsResult>"
GZIP = b"\x1f\x8b"
NAME = "rlimages-test-1"


class Body(BytesIO):
    """A response body with the interface of urllib3."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class FakeAws:
    """A fake of AWS. It receives requests after botocore has validated them."""

    def __init__(self) -> None:
        self.session: Any = None
        self.reset()

    def reset(self, *statuses: str) -> None:
        """Forget all requests, and set the statuses that a job reports one after another. The last one is repeated."""
        self.calls: list[tuple[str, Any]] = []
        self.uploads: list[bytes] = []
        self._statuses = list(statuses)

    def request_bodies(self, operation: str) -> list[Any]:
        """Return the bodies of the requests for one operation."""
        return [body for name, body in self.calls if name == operation]

    def respond(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        """Answer a request instead of the network. This handles the event `before-send` of botocore."""
        _, service, operation = event_name.split(".")
        if service == "s3":
            self.uploads.append(request.body.read() if hasattr(request.body, "read") else request.body or b"")
            text = BUCKETS if operation == "ListBuckets" else ""
        else:
            self.calls.append((operation, json.loads(request.body)))
            text = json.dumps(self._response_values(operation))
        return AWSResponse(request.url, 200, {}, Body(text.encode()))

    def _response_values(self, operation: str) -> dict[str, str]:
        if operation == "CreateTrainingJob":
            return {"TrainingJobArn": f"arn:aws:sagemaker:us-west-2:123456789012:training-job/{NAME}"}
        if operation == "DescribeTrainingJob":
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            return {"TrainingJobName": NAME, "TrainingJobStatus": status, "FailureReason": "the reward was no number"}
        return {}


@pytest.fixture(scope="module")
def shared_fake_aws() -> FakeAws:
    """The fake AWS of all tests, because its clients take seconds to create."""
    sdk.require_sdk()
    fake_aws = FakeAws()
    core_session = botocore.session.Session()
    core_session.set_credentials("none", "none")
    core_session.register("before-send", fake_aws.respond)
    with sdk.ignore_warnings():
        from sagemaker import Session

        aws = boto3.Session(botocore_session=core_session, region_name="us-west-2")
        fake_aws.session = Session(boto_session=aws, default_bucket=BUCKET)
    return fake_aws


@pytest.fixture
def fake_aws(shared_fake_aws: FakeAws) -> Iterator[FakeAws]:
    shared_fake_aws.reset("Completed")
    with sdk.ignore_warnings():
        yield shared_fake_aws


@pytest.fixture
def job_request() -> sagemaker_job.JobRequest:
    return sagemaker_job.JobRequest(
        image="123456789012.dkr.ecr.us-west-2.amazonaws.com/custom-rl-coach-image:1.0",
        role=ROLE,
        instance_type="ml.m4.xlarge",
        script=RESOURCES / "ray" / "train_cartpole.py",
        hyperparameters={"rl.training.config.lr": 0.0005},
        metrics="RAY",
    )


def test_the_request_has_the_values_of_the_job(fake_aws, job_request) -> None:
    with sagemaker_job.running_job(job_request, fake_aws.session, NAME, {"train": f"s3://{BUCKET}/train"}):
        sagemaker_job.wait_for_completion(fake_aws.session.sagemaker_client, NAME, poll=0)
    (body,) = fake_aws.request_bodies("CreateTrainingJob")
    assert body["TrainingJobName"] == NAME
    assert body["AlgorithmSpecification"]["TrainingImage"] == job_request.image
    assert body["RoleArn"] == ROLE
    assert body["StoppingCondition"] == {"MaxRuntimeInSeconds": 900}
    resources = body["ResourceConfig"]
    assert (resources["InstanceType"], resources["InstanceCount"]) == ("ml.m4.xlarge", 1)
    assert [channel["ChannelName"] for channel in body["InputDataConfig"]] == ["train"]
    metrics = [metric["Name"] for metric in body["AlgorithmSpecification"]["MetricDefinitions"]]
    assert metrics == ["episode_reward_mean", "episode_reward_max"]
    hyperparameters = body["HyperParameters"]
    assert hyperparameters["rl.training.config.lr"] == "0.0005"
    assert hyperparameters["sagemaker_program"] == '"train_cartpole.py"'
    assert hyperparameters["sagemaker_estimator"] == '"RLEstimator"'


def test_the_folder_of_the_script_is_uploaded(fake_aws, job_request) -> None:
    with sagemaker_job.running_job(job_request, fake_aws.session, NAME):
        pass
    (archive,) = (body for body in map(upload_content, fake_aws.uploads) if body.startswith(GZIP))
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        assert "train_cartpole.py" in tar.getnames()
    (body,) = fake_aws.request_bodies("CreateTrainingJob")
    assert json.loads(body["HyperParameters"]["sagemaker_submit_directory"]).startswith(f"s3://{BUCKET}/")


def upload_content(body: bytes) -> bytes:
    """Return the content of an upload, without the chunk header `SIZE\\r\\n` of uploads with a trailing checksum."""
    size, newline, rest = body.partition(b"\r\n")
    return body if body.startswith(GZIP) or not newline else rest[: int(size, 16)]


@pytest.mark.parametrize("error", [AssertionError, KeyboardInterrupt])
def test_a_job_is_stopped_when_its_test_fails(fake_aws, job_request, error) -> None:
    fake_aws.reset("InProgress")
    with pytest.raises(error), sagemaker_job.running_job(job_request, fake_aws.session, NAME):
        raise error
    assert fake_aws.request_bodies("StopTrainingJob") == [{"TrainingJobName": NAME}]


def test_a_job_that_exceeds_the_limit_is_stopped(fake_aws, job_request) -> None:
    fake_aws.reset("InProgress")
    error = pytest.raises(AssertionError, match="still InProgress after 0 s")
    with error, sagemaker_job.running_job(job_request, fake_aws.session, NAME):
        sagemaker_job.wait_for_completion(fake_aws.session.sagemaker_client, NAME, limit=0, poll=0)
    assert fake_aws.request_bodies("StopTrainingJob")


def test_a_failed_job_reports_its_reason_and_is_not_stopped(fake_aws, job_request) -> None:
    fake_aws.reset("InProgress", "Failed")
    error = pytest.raises(AssertionError, match="the reward was no number")
    with error, sagemaker_job.running_job(job_request, fake_aws.session, NAME):
        sagemaker_job.wait_for_completion(fake_aws.session.sagemaker_client, NAME, poll=0)
    assert not fake_aws.request_bodies("StopTrainingJob")


def test_the_image_is_that_of_the_registry_of_the_account() -> None:
    options = {"--aws-id": "12345678910", "--docker-base-name": "custom-rl-coach-image", "--tag": "1.0"}
    values = {"--region": "cn-north-1", "--docker-image": None, **options}
    image = "12345678910.dkr.ecr.cn-north-1.amazonaws.com.cn/custom-rl-coach-image:1.0"
    assert image_options.ecr_image(values.get) == image
