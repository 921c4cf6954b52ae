import re
from pathlib import Path

import pytest

from rlimages.emulator.invoke import invoke_endpoint, read_body, resolve_endpoint, response_facts
from rlimages.emulator.model_server import Response
from rlimages.errors import JobError, UsageError

RUNNING = {"one": "http://127.0.0.1:1", "two": "http://127.0.0.1:2"}


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("two", "http://127.0.0.1:2"),
        ("8081", "http://127.0.0.1:8081"),
        ("somewhere:80", "http://somewhere:80"),
        ("https://somewhere/x/", "https://somewhere/x"),
        ("http://somewhere/invocations", "http://somewhere"),
    ],
)
def test_an_endpoint_is_a_name_a_port_or_an_address(argument, address) -> None:
    assert resolve_endpoint(argument, RUNNING) == address


def test_without_an_argument_the_only_running_endpoint_is_used() -> None:
    assert resolve_endpoint(None, {"one": "http://127.0.0.1:1"}) == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("argument", "running", "message"),
    [
        (None, {}, "no endpoint is running; start one with `rlimages serve`, or give an address with --endpoint"),
        (None, RUNNING, "several endpoints are running; choose one with --endpoint: one, two"),
        (
            "three",
            RUNNING,
            "--endpoint three: no endpoint has this name (running: one, two); give a name, a port or an address",
        ),
        (
            "three",
            {},
            "--endpoint three: no endpoint has this name (none is running); give a name, a port or an address",
        ),
        ("http://", {}, "--endpoint http://: not a valid address; write it as http://HOST:PORT"),
        ("99999", {}, "--endpoint 99999: not a valid address; write it as http://HOST:PORT"),
        ("http://[::1", {}, "--endpoint http://[::1: Invalid port"),
    ],
)
def test_an_argument_that_means_no_endpoint_is_refused(argument, running, message) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve_endpoint(argument, running)


def test_a_request_that_is_larger_than_sagemaker_allows_is_refused() -> None:
    with pytest.raises(UsageError, match="the request has 6291457 bytes; SageMaker allows 6291456"):
        invoke_endpoint("9", b"x" * (6 * 2**20 + 1), content_type="text/csv", accept=None)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="none cannot be read: No such file or directory"):
        read_body(tmp_path / "none")


def test_the_json_of_a_response_replaces_bytes_that_are_not_utf_8() -> None:
    response = Response(status=200, body=b"\xff1", content_type="text/csv", seconds=0.1234)
    assert response_facts("http://h", response) == {
        "address": "http://h", "status": 200, "content_type": "text/csv", "body": "\ufffd1", "seconds": 0.123,
    }  # fmt: skip
