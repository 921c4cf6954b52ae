from pathlib import Path

import pytest

from rlimages.emulator.job import JobStatus
from rlimages.emulator.metrics import Metrics
from rlimages.emulator.train import TrainingRun, TrainOptions, make_training_job, training_facts, training_lines
from rlimages.emulator.training_job import TrainingResult
from rlimages.errors import JobError


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/train.py").write_text("")
    (tmp_path / "lib").mkdir()

    def make(**options):
        return make_training_job(TrainOptions(image="i", max_run=60, region="us-west-2", **options), "j", "i")

    return make


def test_a_single_script_is_copied_into_the_code_folder(make) -> None:
    job = make(entry_point="src/deep/train.py")
    assert job.program == "train.py"
    assert job.code == {"/opt/ml/code/train.py": Path("src/deep/train.py")}


def test_a_script_in_a_source_folder_keeps_its_path(make) -> None:
    job = make(entry_point="deep/train.py", source_dir=Path("src"), dependencies=(Path("lib"),))
    assert job.program == "deep/train.py"
    assert job.code == {"/opt/ml/code": Path("src"), "/opt/ml/code/lib": Path("lib")}


def test_a_channel_is_a_folder_or_a_file(make, tmp_path) -> None:
    job = make(channels=("a=src", "b=src/deep/train.py"))
    assert [channel.target for channel in job.channels] == ["/opt/ml/input/data/a", "/opt/ml/input/data/b/train.py"]
    assert all(channel.source.is_absolute() for channel in job.channels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entry_point": "none.py"}, "--entry-point none.py: there is no such file in"),
        ({"entry_point": "train.py", "source_dir": Path("src")}, "--entry-point train.py: there is no such file in .*/src"),
        ({"source_dir": Path("src")}, "need an --entry-point"),
        ({"channels": ("a=nowhere",)}, "--channel a: nowhere does not exist"),
        ({"gpus": "some"}, "--gpus some: give a number, or all"),
        ({"environment": ("A",)}, "--env A: write it as NAME=VALUE"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused(make, options, message) -> None:
    with pytest.raises(JobError, match=message):
        make(**options)


def test_the_json_of_a_job_has_its_result_metrics_and_files(make, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.tar.gz").write_text("")
    metrics = Metrics([("r", "r=(.*)")])
    for line in ("r=1", "r=inf"):
        metrics.read_line(line)
    result = TrainingResult(
        status=JobStatus.STOPPED, reason="the job was stopped", failure="", codes={"algo-1": 0}, seconds=1.23456
    )
    job = make(checkpoints=Path("kept"))
    assert training_facts(TrainingRun(job=job, result=result, metrics=metrics, output=Path("out"))) == {
        "job": "j",
        "image": "i",
        "status": "Stopped",
        "reason": "the job was stopped",
        "failure": "",
        "exit_codes": {"algo-1": 0},
        "seconds": 1.235,
        "metrics": {"r": [1.0, None]},
        "output": "out",
        "files": {"model.tar.gz": "out/model.tar.gz"},
        "checkpoints": "kept",
    }


def test_the_summary_of_a_job_has_its_reason_failure_metrics_and_folders(make) -> None:
    result = TrainingResult(
        status=JobStatus.FAILED,
        reason="algo-1 failed: exit code 1",
        failure="no data\n",
        codes={"algo-1": 1},
        seconds=1.0,
    )
    run = TrainingRun(job=make(checkpoints=Path("kept")), result=result, metrics=Metrics([]), output=Path("out"))
    assert list(training_lines(run)) == [
        "j: Failed after 1.0 s: algo-1 failed: exit code 1",
        "no data",
        "results: out",
        "checkpoints: kept",
    ]
