import threading
import time
from pathlib import Path

import pytest

from rlimages.emulator import transform_runner
from rlimages.emulator.endpoint import find_content_type
from rlimages.emulator.model_server import Response
from rlimages.emulator.transform_job import BatchStrategy, RequestSettings
from rlimages.emulator.transform_runner import OutputOptions, clear_outputs, input_files, run_transform
from rlimages.errors import FactoryError, InvocationError, JobError, UnreachableError
from rlimages.system.context import RunContext
from rlimages.system.process import Stop


class FakeServer:
    """A server that answers each request with `<body>!`, or with the next of its `answers` to this body."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, str, str | None]] = []
        self.answers: dict[bytes, list[Response | Exception]] = {}
        self.seconds: dict[bytes, float] = {}
        self.open = self.most_open = 0
        self._lock = threading.Lock()

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        with self._lock:
            self.requests.append((body, content_type, accept))
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        time.sleep(self.seconds.get(body, 0.0))
        with self._lock:
            self.open -= 1
        answers = self.answers.get(body)
        answer = answers.pop(0) if answers else respond(200, body.strip() + b"!")
        if isinstance(answer, Exception):
            raise answer
        return answer


def respond(status: int, body: bytes = b"", retry_after: float | None = None) -> Response:
    return Response(status=status, body=body, content_type="", seconds=0.0, retry_after=retry_after)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, server: FakeServer, notes: list[str]):
    """Transform files by name and content. Returns the output folder, and the records and the reason of each file."""

    def run(files: dict[str, bytes], *, stop: Stop | None = None, max_concurrent: int = 1, **options):
        for name, content in files.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(content)
        found = input_files(tmp_path / "in", lambda name: find_content_type(name, "text/csv"))
        transformed = []
        settings = RequestSettings(
            split_lines=True, strategy=BatchStrategy.SINGLE, max_bytes=10, max_concurrent=max_concurrent
        )
        context = RunContext(environ={}, stop=stop or Stop(), note=notes.append)
        clear_outputs(found, tmp_path / "out")
        run_transform(found, server, tmp_path / "out", settings=settings, options=OutputOptions(**options), context=context, on_file=transformed.append)  # fmt: skip
        outputs = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}  # fmt: skip
        return outputs, {file.name: (file.records, file.reason) for file in transformed}

    return run


def test_responses_are_in_the_order_of_their_records(run, server) -> None:
    server.seconds = {b"1\n": 0.1, b"2\n": 0.05}
    outputs, files = run({"a": b"1\n2\n3\n", "deep/b": b"4\n"}, max_concurrent=3, end_lines=True)
    assert outputs == {"a.out": b"1!\n2!\n3!\n", "deep/b.out": b"4!\n"}
    assert files == {"a": (3, ""), "deep/b": (1, "")}


def test_no_more_requests_are_open_than_allowed(run, server) -> None:
    server.seconds = {b"%d\n" % number: 0.02 for number in range(10)}
    run({"a": b"".join(server.seconds), "b": b"0\n1\n"}, max_concurrent=3)
    assert server.most_open == 3


def test_a_request_has_its_content_type_and_accept(run, server) -> None:
    run({"a": b"1\n"}, accept="text/x")
    assert server.requests == [(b"1\n", "text/csv", "text/x")]


def test_a_file_that_fails_has_its_line_in_the_reason_and_no_output(run, server) -> None:
    server.answers = {b"2\n": [respond(400, b"2 is odd")]}
    outputs, files = run({"a": b"1\n2\n3\n", "b": b"4\n"})
    assert outputs == {"b.out": b"4!"}
    assert files["a"] == (1, "a:2: 400 Bad Request: 2 is odd")


def test_no_more_requests_of_a_failed_file_are_sent(run, server) -> None:
    server.answers = {b"bad\n": [respond(400)]}
    run({"a": b"bad\n" + b"1\n" * 50})
    assert len(server.requests) < 10


def test_a_record_that_is_too_large_fails_its_file(run) -> None:
    outputs, files = run({"a": b"1\n" + b"x" * 20})
    assert outputs == {}
    assert files["a"][1] == "a:2: the record is larger than MaxPayloadInMB, 0 MB"


def test_the_progress_of_a_long_file_is_noted_regularly(run, notes, monkeypatch) -> None:
    run({"a": b"1\n2\n"})
    assert notes == []
    monkeypatch.setattr(transform_runner, "PROGRESS_SECONDS", -1.0)
    run({"a": b"1\n2\n"})
    assert notes == ["a: 1 record so far", "a: 2 records so far"]


def test_a_request_is_repeated_while_the_server_is_busy_or_unreachable(run, server) -> None:
    server.answers = {
        b"1\n": [respond(503, retry_after=0.01), respond(429, retry_after=0.01), UnreachableError("hung up")]
    }
    outputs, _ = run({"a": b"1\n"})
    assert outputs == {"a.out": b"1!"}
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_fails_the_file(run, server) -> None:
    server.answers = {b"1\n": [respond(503, b"no", retry_after=0.01)] * 2}
    outputs, files = run({"a": b"1\n"}, retries=1)
    assert (outputs, files["a"][1]) == ({}, "a:1: 503 Service Unavailable: no")


@pytest.mark.parametrize("answer", [respond(500), respond(413), InvocationError("no answer within 600 s")])
def test_other_failures_are_not_repeated(run, server, answer) -> None:
    server.answers = {b"1\n": [answer]}
    outputs, files = run({"a": b"1\n"})
    assert (outputs, len(server.requests)) == ({}, 1)
    assert files["a"][1].startswith("a:1: ")


def test_the_output_of_a_file_without_records_is_empty(run, server) -> None:
    assert run({"a": b"\n"}) == ({"a.out": b""}, {"a": (0, "")})


def test_the_output_of_an_older_job_is_removed_and_other_files_are_kept(run, server, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.out").write_text("old")
    (tmp_path / "out/other").write_text("mine")
    server.answers = {b"1\n": [respond(400)]}
    assert run({"a": b"1\n"})[0] == {"other": b"mine"}


def test_a_stopped_job_leaves_no_partial_output(run, server) -> None:
    stop = Stop()
    server.answers = {b"1\n": [respond(200, b"1")]}
    stop.set()
    assert run({"a": b"1\n2\n"}, stop=stop) == ({}, {})


def test_the_files_of_a_folder_include_those_of_subfolders(tmp_path) -> None:
    for name in ("b.csv", "a/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = input_files(tmp_path, lambda name: find_content_type(name, None))
    assert [(source.name, source.content_type) for source in found] == [("a/c.json", "application/json"), ("b.csv", "text/csv")]  # fmt: skip
    (single,) = input_files(tmp_path / "b.csv", lambda name: find_content_type(name, None))
    assert single.name == "b.csv"


def test_a_folder_without_files_is_an_error(tmp_path) -> None:
    with pytest.raises(JobError, match="has no files to transform"):
        input_files(tmp_path, str)


def test_an_output_folder_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FactoryError, match=r"cannot write to .*out: File exists"):
        clear_outputs((), tmp_path / "out")
