import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlimages.emulator.invoke import ModelServer, Response, ping_server, resolve_endpoint
from rlimages.errors import InvocationError, UnreachableError, UsageError


class Handler(BaseHTTPRequestHandler):
    """Says what it was sent; `/slow` drips, everything else is what the server's `answers` have."""

    def do_GET(self) -> None:
        status, body, headers = self.server.answers.get(self.path, (404, b"", {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError):
            for number in range(len(body)):
                self.wfile.write(body[number : number + 1])
                time.sleep(0.02 if "X-Slow" in headers else 0)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        said = f"{self.path} {self.headers['content-type']} {self.headers['accept']} {body.decode()}"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_words) -> None:
        pass


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(web: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{web.server_port}"


def test_an_invocation_goes_as_it_is(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        answer = server.invoke(b"1,2", content_type="text/csv", accept="text/x")
    assert (answer.status, answer.content_type) == (200, "text/plain")
    assert answer.body == b"/invocations text/csv text/x 1,2"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (200, ""),
        (201, "GET /ping was answered with 201 Created: tired"),
        (503, "GET /ping was answered with 503 Service Unavailable: tired"),
    ],
)
def test_only_a_200_is_healthy(web, status, sentence) -> None:
    web.answers = {"/ping": (status, b"tired", {})}
    assert ping_server(url(web)) == sentence


def test_where_nothing_is_the_ping_says_so() -> None:
    assert ping_server("http://127.0.0.1:9").startswith("nothing answers GET /ping at http://127.0.0.1:9 (")


def test_a_server_that_drips_is_too_slow(web) -> None:
    web.answers = {"/ping": (200, b"x" * 40, {"X-Slow": "1"})}
    with ModelServer(url(web), timeout=0.1) as server:
        assert server.ping() == "GET /ping had no answer within 0.1 s"


def test_execution_parameters_are_optional(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        assert server.execution_parameters() is None
        web.answers = {"/execution-parameters": (200, b"{}", {})}
        assert server.execution_parameters() == b"{}"


def test_a_server_says_when_it_wants_to_be_asked_again(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        for said, seconds in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
            web.answers = {"/ping": (503, b"", {"Retry-After": said})}
            assert server._ask("GET", "/ping").retry_after == seconds


def test_nobody_there_is_not_the_same_as_no_answer_in_time() -> None:
    with ModelServer("http://127.0.0.1:9", timeout=5) as server, pytest.raises(UnreachableError):
        server.invoke(b"", content_type="text/csv")


def test_an_answer_is_a_sentence() -> None:
    def sentence(status: int, body: bytes) -> str:
        return Response(status=status, body=body, content_type="", seconds=0.0).sentence

    assert sentence(400, b" bad\n  line ") == "400 Bad Request: bad line"
    assert sentence(500, b"") == "500 Internal Server Error"
    assert sentence(599, b"\xff") == "599: \ufffd"
    assert len(sentence(400, b"x" * 10_000)) < 330


RUNNING = {"one": "http://127.0.0.1:1", "two": "http://127.0.0.1:2"}


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("two", "http://127.0.0.1:2"),
        ("8081", "http://127.0.0.1:8081"),
        ("somewhere:80", "http://somewhere:80"),
        ("https://somewhere/x/", "https://somewhere/x"),
        ("http://somewhere/invocations", "http://somewhere"),
    ],
)
def test_an_endpoint_has_many_names(word, address) -> None:
    assert resolve_endpoint(word, RUNNING) == address


def test_the_only_endpoint_needs_no_name() -> None:
    assert resolve_endpoint(None, {"one": "http://127.0.0.1:1"}) == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("word", "running", "sentence"),
    [
        (None, {}, "no endpoint runs here; start one with `rlimages serve`"),
        (None, RUNNING, "several endpoints run here; say --endpoint with one of one, two"),
        ("three", RUNNING, "--endpoint three: there is none of this name, only one, two"),
        ("three", {}, "--endpoint three: there is none here; it may also be an address or a port"),
        ("http://", {}, "--endpoint http://: this is no address; write it as http://HOST:PORT"),
        ("99999", {}, "--endpoint 99999: this is no address"),
        ("http://[::1", {}, "--endpoint http://.*: Invalid port"),
    ],
)
def test_an_endpoint_that_is_none_is_a_mistake(word, running, sentence) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve_endpoint(word, running)


def test_both_are_failures_of_the_invocation() -> None:
    assert issubclass(UnreachableError, InvocationError)
    assert InvocationError.exit_code == 1
