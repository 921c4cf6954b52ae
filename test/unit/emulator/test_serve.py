from pathlib import Path

import pytest

from rlimages.emulator.endpoint_config import Endpoint, EndpointState, EndpointStatus
from rlimages.emulator.invoke import Response
from rlimages.emulator.serve import (
    ServeOptions,
    answer_facts,
    endpoint_exit_code,
    endpoint_facts,
    endpoint_lines,
    make_endpoint,
)
from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL

CREATING, IN_SERVICE, UNHEALTHY, FAILED, STOPPED = EndpointStatus
ENDPOINT = Endpoint(name="e", image="i", region="r", model=None)


def state(status: EndpointStatus, before: EndpointStatus = CREATING, **words) -> EndpointState:
    return EndpointState(status=status, before=before, **{"address": "http://h", "seconds": 3.0, **words})


@pytest.mark.parametrize(
    ("status", "before", "code"),
    [
        (STOPPED, IN_SERVICE, 0),
        (STOPPED, CREATING, 130),
        (STOPPED, UNHEALTHY, 1),
        (FAILED, IN_SERVICE, 1),
        (FAILED, CREATING, 1),
    ],
)
def test_the_exit_code_says_how_it_was(status, before, code) -> None:
    assert endpoint_exit_code(state(status, before)) == code


def test_an_endpoint_in_service_says_where_and_how_to_use_it() -> None:
    first, curl, invoke = endpoint_lines(ENDPOINT, state(IN_SERVICE))
    assert first == "e: InService after 3.0 s at http://h"
    assert curl.startswith("try: curl --data-binary @request.json")
    assert curl.endswith(" http://h/invocations")
    assert invoke == "or:  rlimages invoke request.json"
    assert len(list(endpoint_lines(ENDPOINT, state(IN_SERVICE, UNHEALTHY)))) == 1


def test_what_went_wrong_is_said_with_what_was_printed_last() -> None:
    said = list(endpoint_lines(ENDPOINT, state(UNHEALTHY, IN_SERVICE, reason="no answer", last=("a", "b"))))
    assert said == ["e: Unhealthy after 3.0 s: no answer", "it printed last:", "  | a", "  | b"]


def test_a_stop_needs_no_reason() -> None:
    assert list(endpoint_lines(ENDPOINT, state(STOPPED, reason="it was stopped", last=("a",)))) == [
        "e: Stopped after 3.0 s"
    ]


def test_programs_get_the_same() -> None:
    assert endpoint_facts(ENDPOINT, state(FAILED, reason="x", last=("a",))) == {
        "endpoint": "e", "image": "i", "status": "Failed", "reason": "x", "address": "http://h", "seconds": 3.0, "last": ["a"],
    }  # fmt: skip
    answer = Response(status=200, body=b"\xff1", content_type="text/csv", seconds=0.1234)
    assert answer_facts("http://h", answer) == {
        "address": "http://h", "status": 200, "content_type": "text/csv", "body": "\ufffd1", "seconds": 0.123,
    }  # fmt: skip


def test_wishes_become_an_endpoint(engine, step, tmp_path) -> None:
    engine.passes(step)
    wishes = ServeOptions(image="x", model=tmp_path, environment=("A=b=c",), gpus="all", port=0, startup=9, region="r")
    assert make_endpoint(wishes, "n", step.request.tag, engine) == Endpoint(
        name="n",
        image=step.request.tag,
        region="r",
        model=tmp_path,
        environment={"A": "b=c"},
        gpus=-1,
        port=0,
        startup=9,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"model": Path("/none")}, "--model /none: there is no such archive or folder"),
        ({"gpus": "some"}, "--gpus some: say a number, or all"),
        ({"environment": ("A",)}, "--env A: write it as name=value"),
        ({"bind_to": 9000}, f"has no label {BIND_TO_PORT_LABEL}=true"),
    ],
)
def test_wishes_that_cannot_be_are_named(engine, step, words, sentence) -> None:
    engine.passes(step)
    with pytest.raises(JobError, match=sentence):
        make_endpoint(ServeOptions(image="x", region="r", **words), "n", step.request.tag, engine)


def test_the_results_of_a_training_job_are_not_taken_for_a_model(tmp_path) -> None:
    (tmp_path / "model.tar.gz").write_text("")
    with pytest.raises(JobError, match=r"in this folder is a model\.tar\.gz; say .*/model\.tar\.gz"):
        ServeOptions(image="x", region="r", model=tmp_path)
