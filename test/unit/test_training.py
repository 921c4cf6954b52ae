from pathlib import Path

import pytest

from rlimages.errors import FactoryError, JobError, SelectionError, ToolError
from rlimages.training import Wishes, find_image, make_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/train.py").write_text("")
    (tmp_path / "lib").mkdir()

    def make(**words):
        return make_job(Wishes(image="i", max_run=60, region="us-west-2", **words), "j", "i")

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


def test_an_image_of_the_store_needs_no_project(engine, step, tmp_path) -> None:
    engine.passes(step)
    assert find_image(step.image, engine, None, tmp_path) == step.image


def test_a_cell_is_its_image(engine, step, project) -> None:
    name = next(cell.local_name for cell in project.cells if cell.id == "vw-8.7.0-cpu")
    engine.store[name] = engine.passes(step)
    assert find_image("vw-8.7.0-cpu", engine, ROOT / "build_matrix.yaml", ROOT) == name


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("a:1", ToolError, "no image a:1 in the local store; docker pull a:1"),
        ("vw-8.7.0-cpu", ToolError, "rlimages build --select vw-8.7.0-cpu"),
        ("vw-8.7.0-cpuu", SelectionError, "did you mean 'vw-8.7.0-cpu'"),
        ("vw-8.7.0-*", SelectionError, "a job runs in one image"),
    ],
)
def test_an_image_that_is_not_there_has_a_remedy(engine, word, kind, sentence) -> None:
    with pytest.raises(kind, match=sentence):
        find_image(word, engine, ROOT / "build_matrix.yaml", ROOT)


def test_a_word_outside_a_project_is_told_of_the_matrix(engine, tmp_path) -> None:
    with pytest.raises(FactoryError, match=r"no build_matrix\.yaml"):
        find_image("vw", engine, None, tmp_path)
