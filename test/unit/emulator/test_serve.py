from pathlib import Path

import pytest

from rlimages.emulator.endpoint import Endpoint, EndpointState, EndpointStatus
from rlimages.emulator.serve import (
    ServeOptions,
    endpoint_exit_code,
    endpoint_facts,
    endpoint_lines,
    make_endpoint,
)
from rlimages.errors import JobError
from rlimages.oci.labels import BIND_TO_PORT_LABEL

CREATING, IN_SERVICE, UNHEALTHY, FAILED, STOPPED = EndpointStatus
ENDPOINT = Endpoint(name="e", image="i", region="r", model=None)


def state(status: EndpointStatus, previous: EndpointStatus = CREATING, **changes) -> EndpointState:
    return EndpointState(status=status, previous=previous, **{"address": "http://h", "seconds": 3.0, **changes})


@pytest.mark.parametrize(
    ("status", "previous", "code"),
    [
        (STOPPED, IN_SERVICE, 0),
        (STOPPED, CREATING, 130),
        (STOPPED, UNHEALTHY, 1),
        (FAILED, IN_SERVICE, 1),
        (FAILED, CREATING, 1),
    ],
)
def test_the_exit_code_follows_from_the_last_two_states(status, previous, code) -> None:
    assert endpoint_exit_code(state(status, previous)) == code


def test_an_endpoint_in_service_prints_its_address_and_how_to_use_it() -> None:
    first, curl, invoke = endpoint_lines(ENDPOINT, state(IN_SERVICE))
    assert first == "e: InService after 3.0 s at http://h"
    assert curl.startswith("try: curl --data-binary @request.json")
    assert curl.endswith(" http://h/invocations")
    assert invoke == "or:  rlimages invoke request.json"
    assert len(list(endpoint_lines(ENDPOINT, state(IN_SERVICE, UNHEALTHY)))) == 1


def test_a_failure_is_printed_with_the_last_lines_of_the_log() -> None:
    lines = list(endpoint_lines(ENDPOINT, state(UNHEALTHY, IN_SERVICE, reason="no answer", last_lines=("a", "b"))))
    assert lines == ["e: Unhealthy after 3.0 s: no answer", "last lines of its log:", "  | a", "  | b"]


def test_a_stop_is_printed_without_a_reason() -> None:
    assert list(endpoint_lines(ENDPOINT, state(STOPPED, reason="the endpoint was stopped", last_lines=("a",)))) == [
        "e: Stopped after 3.0 s"
    ]


def test_the_json_of_a_state_has_all_its_fields() -> None:
    assert endpoint_facts(ENDPOINT, state(FAILED, reason="x", last_lines=("a",))) == {
        "endpoint": "e", "image": "i", "status": "Failed", "reason": "x", "address": "http://h", "seconds": 3.0, "last": ["a"],
    }  # fmt: skip


def test_options_become_an_endpoint(engine, step, tmp_path) -> None:
    engine.passes(step)
    options = ServeOptions(image="x", model=tmp_path, environment=("A=b=c",), gpus="all", port=0, startup=9, region="r")
    assert make_endpoint(options, "n", step.request.tag, engine) == Endpoint(
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
    ("changes", "message"),
    [
        ({"model": Path("/none")}, "--model /none: there is no such archive or folder"),
        ({"gpus": "some"}, "--gpus some: give a number, or all"),
        ({"environment": ("A",)}, "--env A: write it as NAME=VALUE"),
        ({"bind_to": 9000}, f"has no label {BIND_TO_PORT_LABEL}=true"),
    ],
)
def test_invalid_options_are_refused(engine, step, changes, message) -> None:
    engine.passes(step)
    with pytest.raises(JobError, match=message):
        make_endpoint(ServeOptions(image="x", region="r", **changes), "n", step.request.tag, engine)


def test_the_output_folder_of_a_training_job_is_not_a_model(tmp_path) -> None:
    (tmp_path / "model.tar.gz").write_text("")
    with pytest.raises(JobError, match=r"the folder contains a model\.tar\.gz; use .*/model\.tar\.gz"):
        ServeOptions(image="x", region="r", model=tmp_path)
