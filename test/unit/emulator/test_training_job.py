import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlimages.emulator.training_job import Channel, Job, encode_value, make_job_name, parse_pairs
from rlimages.errors import JobError


@pytest.fixture
def job() -> Job:
    return Job(
        name="vw-2026-11-21",
        image="vw:1",
        region="eu-west-1",
        program="train.py",
        code={},
        parameters={"lr": "1e-4", "rl.stop": "true", "name": "abc"},
        channels=(Channel(name="training", source=Path("/x/data")),),
        environment={"COLOUR": "red"},
        max_run=60,
    )


def config(job: Job, name: str, host: str = "algo-1"):
    return json.loads(job.texts(host)[f"/opt/ml/input/config/{name}.json"])


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("1e-4", "0.0001"),
        ("7", "7"),
        ("true", "true"),
        ("True", '"True"'),
        ("abc", '"abc"'),
        ("", '""'),
        ('"7"', '"7"'),
        ('{"a":1}', '{"a": 1}'),
        ("[1,2]", "[1, 2]"),
        ("--quiet --cb_explore 2", '"--quiet --cb_explore 2"'),
    ],
)
def test_a_value_is_the_json_text_that_the_sdk_would_write(typed: str, text: str) -> None:
    assert encode_value(typed) == text


def test_hyperparameters_are_json_texts_and_the_sdks_own_names(job: Job) -> None:
    assert config(job, "hyperparameters") == {
        "lr": "0.0001",
        "rl.stop": "true",
        "name": '"abc"',
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": '"/opt/ml/code"',
        "sagemaker_job_name": '"vw-2026-11-21"',
        "sagemaker_region": '"eu-west-1"',
        "sagemaker_container_log_level": "20",
    }


def test_without_an_entry_point_hyperparameters_are_as_typed(job: Job) -> None:
    assert config(replace(job, program=""), "hyperparameters") == {"lr": "1e-4", "rl.stop": "true", "name": "abc"}


def test_the_resources_of_a_host_are_complete_and_sorted_as_texts(job: Job) -> None:
    many = replace(job, instance_count=10)
    hosts = ["algo-1", "algo-10", *(f"algo-{number}" for number in range(2, 10))]
    assert config(many, "resourceconfig", "algo-10") == {
        "current_host": "algo-10",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": hosts},
        ],
        "network_interface_name": "eth0",
    }


def test_a_job_with_gpus_says_so(job: Job) -> None:
    assert config(replace(job, gpus=-1), "resourceconfig")["current_instance_type"] == "local_gpu"


def test_each_channel_is_in_file_mode(job: Job) -> None:
    assert config(job, "inputdataconfig") == {
        "training": {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }


def test_a_file_keeps_its_name_in_its_channel() -> None:
    assert Channel(name="a", source=Path("/x/b.csv"), is_file=True).target == "/opt/ml/input/data/a/b.csv"
    assert Channel(name="a", source=Path("/x")).target == "/opt/ml/input/data/a"


def test_the_environment_says_which_job_it_is(job: Job) -> None:
    assert job.variables == {
        "AWS_REGION": "eu-west-1",
        "TRAINING_JOB_NAME": "vw-2026-11-21",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:eu-west-1:000000000000:training-job/vw-2026-11-21",
        "COLOUR": "red",
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parameters": {"sagemaker_program": "x"}}, "'sagemaker_program' is SageMaker's own"),
        ({"parameters": {f"p{n}": "" for n in range(101)}}, "101 hyperparameters; a job may have 100"),
        ({"parameters": {"long": "x" * 2499}}, "'long' is too long"),
        ({"environment": {"a-b": "x"}}, "'a-b' cannot be an environment variable"),
        ({"channels": (Channel(name="a/b", source=Path("/")),)}, "'a/b' cannot be a channel"),
        ({"channels": (Channel(name="..", source=Path("/")),)}, "'..' cannot be a channel"),
        ({"channels": (Channel(name="a", source=Path("/")),) * 21}, "21 channels; a job may have 20"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused(job: Job, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(JobError, match=sentence.replace("(", r"\(")):
        replace(job, **changes)


def test_a_word_is_cut_at_its_first_equals_sign() -> None:
    assert parse_pairs(["a=b=c", "d="], "-p") == {"a": "b=c", "d": ""}


@pytest.mark.parametrize(("words", "sentence"), [(["a"], "-p a: write it as name=value"), (["=b"], "-p =b: write it"), (["a=1", "a=2"], "-p a is given twice")])  # fmt: skip
def test_a_word_that_is_no_pair_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        parse_pairs(words, "-p")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("sagemaker-rl-vw-container:vw-9.11.9", "sagemaker-rl-vw-container"),
        ("127.0.0.1:5000/team/my_image:1", "my-image"),
        ("x@sha256:abc", "x"),
        ("__", "job"),
    ],
)
def test_a_job_is_named_after_its_image_the_time_and_its_process(image: str, name: str) -> None:
    now = datetime(2026, 11, 21, 9, 8, 7, 6543, tzinfo=UTC)
    assert make_job_name(image, now, 4321) == f"{name}-2026-11-21-09-08-07-006-4321"


def test_a_name_fits_whatever_the_image_is_called() -> None:
    assert len(make_job_name("x" * 200, datetime.now(UTC), 4194304)) <= 63
