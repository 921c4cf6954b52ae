from pathlib import Path

import pytest

from rlimages.emulator.logs import Metrics
from rlimages.emulator.train import TrainingRun, TrainOptions, make_job, training_facts
from rlimages.emulator.training_job import JobResult, JobStatus
from rlimages.errors import JobError


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/train.py").write_text("")
    (tmp_path / "lib").mkdir()

    def make(**words):
        return make_job(TrainOptions(image="i", max_run=60, region="us-west-2", **words), "j", "i")

    return make


def test_a_script_alone_lies_in_the_code_folder(make) -> None:
    job = make(entry_point="src/deep/train.py")
    assert job.program == "train.py"
    assert job.code == {"/opt/ml/code/train.py": Path("src/deep/train.py")}


def test_a_script_of_a_source_folder_keeps_its_path_there(make) -> None:
    job = make(entry_point="deep/train.py", source_dir=Path("src"), dependencies=(Path("lib"),))
    assert job.program == "deep/train.py"
    assert job.code == {"/opt/ml/code": Path("src"), "/opt/ml/code/lib": Path("lib")}


def test_a_channel_is_a_folder_or_a_file(make, tmp_path) -> None:
    job = make(channels=("a=src", "b=src/deep/train.py"))
    assert [channel.target for channel in job.channels] == ["/opt/ml/input/data/a", "/opt/ml/input/data/b/train.py"]
    assert all(channel.source.is_absolute() for channel in job.channels)


@pytest.mark.parametrize(("word", "count"), [(None, 0), ("2", 2), ("all", -1)])
def test_gpus_are_a_number_or_all(make, word, count) -> None:
    assert make(gpus=word).gpus == count


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"entry_point": "none.py"}, "--entry-point none.py: there is no such file in"),
        ({"entry_point": "train.py", "source_dir": Path("src")}, "--entry-point train.py: there is no such file in .*/src"),
        ({"source_dir": Path("src")}, "need an --entry-point"),
        ({"channels": ("a=nowhere",)}, "--channel a: there is no nowhere"),
        ({"gpus": "some"}, "--gpus some: say a number, or all"),
        ({"environment": ("A",)}, "--env A: write it as name=value"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(make, words, sentence) -> None:
    with pytest.raises(JobError, match=sentence):
        make(**words)


def test_programs_are_told_all_of_a_job(make, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.tar.gz").write_text("")
    metrics = Metrics([("r", "r=(.*)")])
    for line in ("r=1", "r=inf"):
        metrics.hear(line)
    result = JobResult(
        status=JobStatus.STOPPED, reason="it was stopped", failure="", codes={"algo-1": 0}, seconds=1.23456
    )
    job = make(checkpoints=Path("kept"))
    assert training_facts(TrainingRun(job=job, result=result, metrics=metrics, output=Path("out"))) == {
        "job": "j",
        "image": "i",
        "status": "Stopped",
        "reason": "it was stopped",
        "failure": "",
        "exit_codes": {"algo-1": 0},
        "seconds": 1.235,
        "metrics": {"r": [1.0, None]},
        "output": "out",
        "files": {"model.tar.gz": "out/model.tar.gz"},
        "checkpoints": "kept",
    }
