from pathlib import Path

import pytest

from rlimages.emulator.batch import TransformedFile, TransformResult
from rlimages.emulator.endpoint_config import EndpointState, EndpointStatus
from rlimages.emulator.training_job import JobStatus
from rlimages.emulator.transform import (
    TransformOptions,
    TransformRun,
    find_inputs,
    transform_facts,
    transform_lines,
    transform_result,
)
from rlimages.emulator.transform_job import InputFile
from rlimages.errors import JobError

FILES = tuple(InputFile(path=Path(name), name=name, content_type="x/y") for name in ("a", "b"))


def done(name: str, reason: str = "") -> TransformedFile:
    return TransformedFile(name=name, output="" if reason else f"o/{name}.out", reason=reason, records=2, seconds=0.5)


def result(*files: TransformedFile, status: EndpointStatus = EndpointStatus.STOPPED, **words) -> TransformResult:
    return transform_result(EndpointState(status=status, **words), FILES, files, 1.0)


def test_a_job_whose_files_all_passed_is_completed() -> None:
    assert (result(done("a"), done("b")).status, result(done("a"), done("b")).reason) == (JobStatus.COMPLETED, "")


def test_a_job_with_a_file_that_failed_is_failed() -> None:
    found = result(done("a", "bad"), done("b"))
    assert (found.status, found.reason) == (JobStatus.FAILED, "1 of 2 files could not be transformed")


def test_a_job_that_was_not_done_was_stopped() -> None:
    assert result(done("a")).status is JobStatus.STOPPED


def test_a_job_fails_with_its_container() -> None:
    found = result(done("a"), status=EndpointStatus.FAILED, reason="gone", last=("x",))
    assert (found.status, found.reason, found.last) == (JobStatus.FAILED, "gone", ("x",))


def test_people_are_told_how_many_passed_and_where_they_are() -> None:
    told = TransformRun(name="j", result=result(done("a", "bad"), done("b")), output=Path("o"))
    assert list(transform_lines(told)) == [
        "j: Failed after 1.0 s: 1 of 2 files could not be transformed",
        "outputs: 1 file, 2 records in o",
    ]


def test_programs_are_told_of_each_file() -> None:
    told = transform_facts(TransformRun(name="j", result=result(done("a", "a:1: bad"), done("b")), output=Path("o")))
    assert (told["status"], told["output"]) == ("Failed", "o")
    assert [(file["name"], file["output"], file["reason"]) for file in told["files"]] == [("a", "", "a:1: bad"), ("b", "o/b.out", "")]  # fmt: skip


@pytest.mark.parametrize("output", [".", "out/deep"])
def test_outputs_do_not_become_inputs(tmp_path, output) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(JobError, match="the next job would take it for input"):
        find_inputs(TransformOptions(source=tmp_path, output=tmp_path / output))


def test_a_file_that_nothing_tells_about_is_found_before_anything_starts(tmp_path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(JobError, match="a: say what it is with --content-type"):
        find_inputs(TransformOptions(source=tmp_path))
    assert find_inputs(TransformOptions(source=tmp_path, content_type="x/y"))[0].content_type == "x/y"


def test_bad_wishes_are_refused_before_anything_starts(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(JobError, match="--batch-strategy SingleRecord needs --split-type Line"):
        find_inputs(TransformOptions(source=tmp_path, strategy="SingleRecord"))
