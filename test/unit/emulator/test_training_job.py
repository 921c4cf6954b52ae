import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.emulator.training_job import Channel, TrainingJob, encode_value
from rlimages.errors import JobError


@pytest.fixture
def job() -> TrainingJob:
    return TrainingJob(
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


def config(job: TrainingJob, name: str, host: str = "algo-1"):
    return json.loads(job.config_files(host)[f"/opt/ml/input/config/{name}.json"])


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
def test_a_value_is_encoded_as_the_sdk_encodes_it(typed: str, text: str) -> None:
    assert encode_value(typed) == text


def test_hyperparameters_are_json_texts_with_those_of_the_sdk_added(job: TrainingJob) -> None:
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


def test_without_an_entry_point_hyperparameters_are_those_that_were_typed(job: TrainingJob) -> None:
    assert config(replace(job, program=""), "hyperparameters") == {"lr": "1e-4", "rl.stop": "true", "name": "abc"}


def test_the_resource_config_sorts_hosts_as_strings(job: TrainingJob) -> None:
    job_with_ten_hosts = replace(job, instance_count=10)
    hosts = ["algo-1", "algo-10", *(f"algo-{number}" for number in range(2, 10))]
    assert config(job_with_ten_hosts, "resourceconfig", "algo-10") == {
        "current_host": "algo-10",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": hosts},
        ],
        "network_interface_name": "eth0",
    }


def test_a_job_with_gpus_has_another_instance_type(job: TrainingJob) -> None:
    assert config(replace(job, gpus=-1), "resourceconfig")["current_instance_type"] == "local_gpu"


def test_channels_are_in_file_mode_by_default(job: TrainingJob) -> None:
    assert config(job, "inputdataconfig") == {
        "training": {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }


def test_a_single_file_keeps_its_name_in_the_channel() -> None:
    assert Channel(name="a", source=Path("/x/b.csv"), is_file=True).target == "/opt/ml/input/data/a/b.csv"
    assert Channel(name="a", source=Path("/x")).target == "/opt/ml/input/data/a"


def test_the_environment_names_the_job_and_the_region(job: TrainingJob) -> None:
    assert job.variables == {
        "AWS_REGION": "eu-west-1",
        "TRAINING_JOB_NAME": "vw-2026-11-21",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:eu-west-1:000000000000:training-job/vw-2026-11-21",
        "COLOUR": "red",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parameters": {"sagemaker_program": "x"}},
            "hyperparameter 'sagemaker_program' is reserved: the SageMaker SDK sets it",
        ),
        ({"parameters": {f"p{n}": "" for n in range(101)}}, "101 hyperparameters; SageMaker allows 100"),
        (
            {"parameters": {"long": "x" * 2499}},
            "hyperparameter 'long' is too long; SageMaker allows 256 characters in a name and 2500 in a value",
        ),
        ({"environment": {"a-b": "x"}}, "'a-b' is not a valid name of an environment variable"),
        (
            {"channels": (Channel(name="a/b", source=Path("/")),)},
            "'a/b' is not a valid channel name; use at most 64 letters, digits, dots, dashes and underscores",
        ),
        ({"channels": (Channel(name="..", source=Path("/")),)}, "'..' is not a valid channel name"),
        ({"channels": (Channel(name="a", source=Path("/")),) * 21}, "21 channels; SageMaker allows 20"),
    ],
)
def test_values_that_create_training_job_refuses_are_refused(
    job: TrainingJob, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(JobError, match=re.escape(message)):
        replace(job, **changes)
