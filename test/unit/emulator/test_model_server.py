import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlimages.emulator.model_server import ModelServer, Response, ping_server
from rlimages.errors import InvocationError, UnreachableError


class Handler(BaseHTTPRequestHandler):
    """Answers GET as the server's `answers` say, with X-Slow byte by byte, and POST with the request as text."""

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
        text = f"{self.path} {self.headers['content-type']} {self.headers['accept']} {body.decode()}"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments) -> None:
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


def test_an_invocation_sends_the_body_and_its_types(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        answer = server.invoke(b"1,2", content_type="text/csv", accept="text/x")
    assert (answer.status, answer.content_type) == (200, "text/plain")
    assert answer.body == b"/invocations text/csv text/x 1,2"


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (200, ""),
        (201, "GET /ping was answered with 201 Created: tired"),
        (503, "GET /ping was answered with 503 Service Unavailable: tired"),
    ],
)
def test_only_status_200_is_healthy(web, status, problem) -> None:
    web.answers = {"/ping": (status, b"tired", {})}
    assert ping_server(url(web)) == problem


def test_a_ping_without_a_server_names_the_address() -> None:
    assert ping_server("http://127.0.0.1:9").startswith("nothing answers GET /ping at http://127.0.0.1:9 (")


def test_the_time_limit_is_that_of_the_whole_response(web) -> None:
    web.answers = {"/ping": (200, b"x" * 40, {"X-Slow": "1"})}
    with ModelServer(url(web), timeout=0.1) as server:
        assert server.ping() == "GET /ping had no answer within 0.1 s"


def test_execution_parameters_are_optional(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        assert server.execution_parameters() is None
        web.answers = {"/execution-parameters": (200, b"{}", {})}
        assert server.execution_parameters() == b"{}"


def test_retry_after_is_read_only_as_a_number_of_seconds(web) -> None:
    with ModelServer(url(web), timeout=5) as server:
        for value, seconds in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
            web.answers = {"/ping": (503, b"", {"Retry-After": value})}
            assert server._send("GET", "/ping").retry_after == seconds


def test_an_invocation_without_a_server_is_an_unreachable_error() -> None:
    with ModelServer("http://127.0.0.1:9", timeout=5) as server, pytest.raises(UnreachableError):
        server.invoke(b"", content_type="text/csv")


def test_a_response_is_described_by_its_status_and_the_beginning_of_its_body() -> None:
    def summary(status: int, body: bytes) -> str:
        return Response(status=status, body=body, content_type="", seconds=0.0).summary

    assert summary(400, b" bad\n  line ") == "400 Bad Request: bad line"
    assert summary(500, b"") == "500 Internal Server Error"
    assert summary(599, b"\xff") == "599: \ufffd"
    assert len(summary(400, b"x" * 10_000)) < 330


def test_an_unreachable_server_is_an_invocation_error_with_exit_code_1() -> None:
    assert issubclass(UnreachableError, InvocationError)
    assert InvocationError.exit_code == 1
