import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.emulator.transform_job import (
    MEGABYTE,
    BatchStrategy,
    RecordTooLargeError,
    RequestOptions,
    RequestSettings,
    assemble_response,
    decide_settings,
    split_requests,
)
from rlimages.errors import JobError


def settings(
    *,
    split_lines: bool = True,
    strategy: BatchStrategy = BatchStrategy.MULTI,
    max_bytes: int = 10,
    max_concurrent: int = 1,
) -> RequestSettings:
    return RequestSettings(
        split_lines=split_lines, strategy=strategy, max_bytes=max_bytes, max_concurrent=max_concurrent
    )


def bodies(text: bytes, **options) -> list[tuple[bytes, str]]:
    return [(request.body, request.location) for request in split_requests(io.BytesIO(text), settings(**options))]


def test_a_file_that_is_not_split_is_one_request() -> None:
    assert bodies(b"1\n2\n", split_lines=False) == [(b"1\n2\n", "")]
    assert bodies(b"", split_lines=False) == []


def test_with_multi_record_a_request_has_as_many_records_as_fit() -> None:
    assert bodies(b"111\n22\n3\n4444\n5") == [(b"111\n22\n3\n", ":1-3"), (b"4444\n5", ":4-5")]


def test_with_single_record_each_record_is_a_request() -> None:
    assert bodies(b"1\n2", strategy=BatchStrategy.SINGLE) == [(b"1\n", ":1"), (b"2", ":2")]


def test_a_line_of_white_space_is_not_a_record() -> None:
    assert bodies(b"\n1\n \r\n2\n\n", strategy=BatchStrategy.SINGLE) == [(b"1\n", ":2"), (b"2\n", ":4")]


@pytest.mark.parametrize(("split_lines", "location"), [(True, ":2"), (False, "")])
def test_a_record_that_is_too_large_is_an_error_with_its_line(split_lines, location) -> None:
    with pytest.raises(RecordTooLargeError) as caught:
        bodies(b"1\n" + b"x" * 11, split_lines=split_lines)
    assert str(caught.value) == location


def test_a_maximum_of_zero_is_no_limit() -> None:
    assert bodies(b"x" * 99 + b"\n1\n", max_bytes=0) == [(b"x" * 99 + b"\n1\n", ":1-2")]
    assert bodies(b"x" * 99, max_bytes=0, split_lines=False) == [(b"x" * 99, "")]


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda line: line.strip() and b"\n" not in line)), st.sampled_from(BatchStrategy))  # fmt: skip
def test_each_record_is_in_exactly_one_request(lines, strategy) -> None:
    text = b"".join(line + b"\n" for line in lines)
    requests = list(split_requests(io.BytesIO(text), settings(strategy=strategy)))
    assert b"".join(request.body for request in requests) == text
    assert sum(request.records for request in requests) == len(lines)
    assert all(len(request.body) <= 10 for request in requests)


def test_with_assemble_with_line_a_response_ends_with_one_newline() -> None:
    assert [assemble_response(body, end_lines=True) for body in (b"a", b"a\n")] == [b"a\n", b"a\n"]
    assert assemble_response(b"a", end_lines=False) == b"a"


def test_without_settings_of_job_and_container_the_defaults_apply() -> None:
    expected = settings(split_lines=False, max_bytes=6 * MEGABYTE)
    assert decide_settings(RequestOptions(), None) == decide_settings(RequestOptions(), b"{}") == expected


def test_the_job_takes_precedence_over_the_container() -> None:
    answer = b'{"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 0, "Other": 1}'
    container_settings = settings(strategy=BatchStrategy.SINGLE, max_bytes=0, max_concurrent=4)
    assert decide_settings(RequestOptions(split_lines=True), answer) == container_settings
    options = RequestOptions(split_lines=True, strategy=BatchStrategy.MULTI, max_payload_mb=2, max_concurrent=3)
    assert decide_settings(options, answer) == settings(max_bytes=2 * MEGABYTE, max_concurrent=3)
    assert decide_settings(RequestOptions(max_concurrent=0), answer).max_concurrent == 4


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", "the answer to GET /execution-parameters is not JSON: "),
        (b"[1]", "the answer to GET /execution-parameters is not a JSON object"),
        (
            b'{"MaxConcurrentTransforms": "4"}',
            "the answer to GET /execution-parameters has an invalid MaxConcurrentTransforms: Input should be a valid integer",
        ),
        (b'{"MaxPayloadInMB": -1}', "has an invalid MaxPayloadInMB: Input should be greater than or equal to 0"),
        (
            b'{"BatchStrategy": "MultiRecord"}',
            "has an invalid BatchStrategy: Input should be 'SINGLE_RECORD' or 'MULTI_RECORD'",
        ),
        (b"\xff", "is not JSON: "),
    ],
)
def test_invalid_execution_parameters_are_an_error(answer, message) -> None:
    with pytest.raises(JobError, match=message):
        decide_settings(RequestOptions(), answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_payload_mb": 60, "max_concurrent": 2},
            "--max-payload-in-mb 60 times --max-concurrent-transforms 2 is more than 100, SageMaker's limit",
        ),
        (
            {"strategy": BatchStrategy.SINGLE},
            "--batch-strategy SingleRecord needs --split-type Line; without it, each file is one request",
        ),
    ],
)
def test_options_that_create_transform_job_refuses_are_refused(options, message) -> None:
    with pytest.raises(JobError, match=message):
        RequestOptions(**options)


def test_the_settings_of_the_job_become_environment_variables() -> None:
    assert RequestOptions().variables == {}
    assert RequestOptions(
        split_lines=True, strategy=BatchStrategy.SINGLE, max_payload_mb=2, max_concurrent=3
    ).variables == {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
    }
