import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.emulator.batch import (
    MEGABYTE,
    BatchOptions,
    BatchSettings,
    RecordTooLarge,
    Strategy,
    assemble_response,
    decide_settings,
    split_requests,
)
from rlimages.errors import JobError


def how(*, by_line: bool = True, strategy: Strategy = Strategy.MULTI, payload: int = 10) -> BatchSettings:
    return BatchSettings(by_line=by_line, strategy=strategy, payload=payload, concurrent=1)


def bodies(text: bytes, **words) -> list[tuple[bytes, str]]:
    return [(request.body, request.place) for request in split_requests(io.BytesIO(text), how(**words))]


def test_a_file_that_is_not_split_is_one_request() -> None:
    assert bodies(b"1\n2\n", by_line=False) == [(b"1\n2\n", "")]
    assert bodies(b"", by_line=False) == []


def test_as_many_records_go_together_as_fit() -> None:
    assert bodies(b"111\n22\n3\n4444\n5") == [(b"111\n22\n3\n", ":1-3"), (b"4444\n5", ":4-5")]


def test_single_records_go_alone() -> None:
    assert bodies(b"1\n2", strategy=Strategy.SINGLE) == [(b"1\n", ":1"), (b"2", ":2")]


def test_an_empty_line_is_no_record() -> None:
    assert bodies(b"\n1\n \r\n2\n\n", strategy=Strategy.SINGLE) == [(b"1\n", ":2"), (b"2\n", ":4")]


@pytest.mark.parametrize(("by_line", "place"), [(True, ":2"), (False, "")])
def test_what_fits_into_no_request_is_named(by_line, place) -> None:
    with pytest.raises(RecordTooLarge) as caught:
        bodies(b"1\n" + b"x" * 11, by_line=by_line)
    assert str(caught.value) == place


def test_zero_is_any_size() -> None:
    assert bodies(b"x" * 99 + b"\n1\n", payload=0) == [(b"x" * 99 + b"\n1\n", ":1-2")]
    assert bodies(b"x" * 99, payload=0, by_line=False) == [(b"x" * 99, "")]


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda line: line.strip() and b"\n" not in line)), st.sampled_from(Strategy))  # fmt: skip
def test_no_record_is_lost_and_none_is_sent_twice(lines, strategy) -> None:
    text = b"".join(line + b"\n" for line in lines)
    made = list(split_requests(io.BytesIO(text), how(strategy=strategy)))
    assert b"".join(request.body for request in made) == text
    assert sum(request.records for request in made) == len(lines)
    assert all(len(request.body) <= 10 for request in made)


def test_an_answer_ends_with_one_newline_where_that_is_wanted() -> None:
    assert [assemble_response(answer, by_line=True) for answer in (b"a", b"a\n")] == [b"a\n", b"a\n"]
    assert assemble_response(b"a", by_line=False) == b"a"


def test_without_a_word_from_anyone_the_defaults_count() -> None:
    expected = BatchSettings(by_line=False, strategy=Strategy.MULTI, payload=6 * MEGABYTE, concurrent=1)
    assert decide_settings(BatchOptions(), None) == decide_settings(BatchOptions(), b"{}") == expected


def test_the_container_says_what_the_job_does_not() -> None:
    said = b'{"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 0, "Other": 1}'
    assert decide_settings(BatchOptions(by_line=True), said) == how(strategy=Strategy.SINGLE, payload=0).__class__(
        by_line=True, strategy=Strategy.SINGLE, payload=0, concurrent=4
    )
    asked = BatchOptions(by_line=True, strategy=Strategy.MULTI, payload=2, concurrent=3)
    assert decide_settings(asked, said) == BatchSettings(
        by_line=True, strategy=Strategy.MULTI, payload=2 * MEGABYTE, concurrent=3
    )
    assert decide_settings(BatchOptions(concurrent=0), said).concurrent == 4


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"<html>", "was answered with no JSON: "),
        (b"[1]", "was answered with no JSON object"),
        (b'{"MaxConcurrentTransforms": "4"}', "strange MaxConcurrentTransforms: Input should be a valid integer"),
        (b'{"MaxPayloadInMB": -1}', "strange MaxPayloadInMB"),
        (
            b'{"BatchStrategy": "MultiRecord"}',
            "strange BatchStrategy: Input should be 'SINGLE_RECORD' or 'MULTI_RECORD'",
        ),
        (b"\xff", "no JSON"),
    ],
)
def test_a_container_that_makes_no_sense_is_told(said, sentence) -> None:
    with pytest.raises(JobError, match=sentence):
        decide_settings(BatchOptions(), said)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"payload": 60, "concurrent": 2}, "--max-payload-in-mb 60: times --max-concurrent-transforms it may be 100"),
        ({"strategy": Strategy.SINGLE}, "--batch-strategy SingleRecord needs --split-type Line"),
    ],
)
def test_what_create_transform_job_refuses_is_refused(words, sentence) -> None:
    with pytest.raises(JobError, match=sentence):
        BatchOptions(**words)


def test_the_container_is_told_what_the_job_says() -> None:
    assert BatchOptions().variables == {}
    assert BatchOptions(by_line=True, strategy=Strategy.SINGLE, payload=2, concurrent=3).variables == {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
    }
