from pathlib import Path

import pytest

from rlimages.emulator.endpoint import EndpointState, EndpointStatus
from rlimages.emulator.job import JobStatus
from rlimages.emulator.transform import (
    TransformOptions,
    TransformRun,
    find_inputs,
    transform_facts,
    transform_lines,
    transform_result,
)
from rlimages.emulator.transform_job import TransformedFile, TransformResult
from rlimages.emulator.transform_runner import InputFile
from rlimages.errors import JobError

FILES = tuple(InputFile(path=Path(name), name=name, content_type="x/y") for name in ("a", "b"))


def outcome(name: str, reason: str = "") -> TransformedFile:
    return TransformedFile(name=name, output="" if reason else f"o/{name}.out", reason=reason, records=2, seconds=0.5)


def result(*files: TransformedFile, status: EndpointStatus = EndpointStatus.STOPPED, **changes) -> TransformResult:
    return transform_result(EndpointState(status=status, **changes), FILES, files, 1.0)


def test_a_job_is_completed_if_all_files_passed() -> None:
    assert (result(outcome("a"), outcome("b")).status, result(outcome("a"), outcome("b")).reason) == (
        JobStatus.COMPLETED,
        "",
    )


def test_a_job_has_failed_if_a_file_failed() -> None:
    job_result = result(outcome("a", "bad"), outcome("b"))
    assert (job_result.status, job_result.reason) == (JobStatus.FAILED, "1 of 2 files could not be transformed")


def test_a_job_with_missing_files_was_stopped() -> None:
    assert result(outcome("a")).status is JobStatus.STOPPED


def test_a_job_has_failed_if_its_container_failed() -> None:
    job_result = result(outcome("a"), status=EndpointStatus.FAILED, reason="gone", last_lines=("x",))
    assert (job_result.status, job_result.reason, job_result.last_lines) == (JobStatus.FAILED, "gone", ("x",))


def test_the_summary_counts_the_outputs_and_names_their_folder() -> None:
    run = TransformRun(name="j", result=result(outcome("a", "bad"), outcome("b")), output=Path("o"))
    assert list(transform_lines(run)) == [
        "j: Failed after 1.0 s: 1 of 2 files could not be transformed",
        "outputs: 1 file, 2 records in o",
    ]


def test_the_json_of_a_job_has_each_file() -> None:
    facts = transform_facts(
        TransformRun(name="j", result=result(outcome("a", "a:1: bad"), outcome("b")), output=Path("o"))
    )
    assert (facts["status"], facts["output"]) == ("Failed", "o")
    assert [(file["name"], file["output"], file["reason"]) for file in facts["files"]] == [("a", "", "a:1: bad"), ("b", "o/b.out", "")]  # fmt: skip


@pytest.mark.parametrize("output", [".", "out/deep"])
def test_an_output_folder_inside_the_input_is_refused(tmp_path, output) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(JobError, match=r"is inside --input .*: the next job would read the outputs as inputs"):
        find_inputs(TransformOptions(source=tmp_path, output=tmp_path / output))


def test_a_file_without_a_known_type_is_an_error_before_anything_starts(tmp_path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(JobError, match="a: unknown file extension; give its type with --content-type"):
        find_inputs(TransformOptions(source=tmp_path))
    assert find_inputs(TransformOptions(source=tmp_path, content_type="x/y"))[0].content_type == "x/y"


def test_invalid_options_are_an_error_before_anything_starts(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(JobError, match="--batch-strategy SingleRecord needs --split-type Line"):
        find_inputs(TransformOptions(source=tmp_path, strategy="SingleRecord"))
