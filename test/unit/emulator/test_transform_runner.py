import threading
import time
from pathlib import Path

import pytest

from rlimages.emulator import transform_job
from rlimages.emulator.batch import BatchSettings, Strategy
from rlimages.emulator.endpoint_config import content_type
from rlimages.emulator.invoke import Response
from rlimages.emulator.transform_job import OutputOptions, clear_outputs, input_files, run_transform
from rlimages.errors import FactoryError, InvocationError, JobError, UnreachableError
from rlimages.system.process import Stop


class FakeServer:
    """Answers each request with `<body>!`, or as `answers` has it, the first first."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, str, str | None]] = []
        self.answers: dict[bytes, list[Response | Exception]] = {}
        self.seconds: dict[bytes, float] = {}
        self.open = self.most = 0
        self._lock = threading.Lock()

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        with self._lock:
            self.got.append((body, content_type, accept))
            self.open += 1
            self.most = max(self.most, self.open)
        time.sleep(self.seconds.get(body, 0.0))
        with self._lock:
            self.open -= 1
        answers = self.answers.get(body)
        answer = answers.pop(0) if answers else say(200, body.strip() + b"!")
        if isinstance(answer, Exception):
            raise answer
        return answer


def say(status: int, body: bytes = b"", retry_after: float | None = None) -> Response:
    return Response(status=status, body=body, content_type="", seconds=0.0, retry_after=retry_after)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, server: FakeServer, notes: list[str]):
    """Transform files by name and content; what is left in the output folder, and what was heard of each file."""

    def run(files: dict[str, bytes], *, stop: Stop | None = None, concurrent: int = 1, **words):
        for name, content in files.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(content)
        found = input_files(tmp_path / "in", lambda name: content_type(name, "text/csv"))
        heard = []
        how = BatchSettings(by_line=True, strategy=Strategy.SINGLE, payload=10, concurrent=concurrent)
        clear_outputs(found, tmp_path / "out")
        run_transform(found, server, tmp_path / "out", how=how, wanted=OutputOptions(**words), stop=stop or Stop(), on_file=heard.append, on_note=notes.append)  # fmt: skip
        left = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}  # fmt: skip
        return left, {file.name: (file.records, file.reason) for file in heard}

    return run


def test_answers_stand_in_the_order_of_their_records(run, server) -> None:
    server.seconds = {b"1\n": 0.1, b"2\n": 0.05}
    left, heard = run({"a": b"1\n2\n3\n", "deep/b": b"4\n"}, concurrent=3, by_line=True)
    assert left == {"a.out": b"1!\n2!\n3!\n", "deep/b.out": b"4!\n"}
    assert heard == {"a": (3, ""), "deep/b": (1, "")}


def test_no_more_requests_are_open_than_may_be(run, server) -> None:
    server.seconds = {b"%d\n" % number: 0.02 for number in range(10)}
    run({"a": b"".join(server.seconds), "b": b"0\n1\n"}, concurrent=3)
    assert server.most == 3


def test_a_request_says_what_it_is_and_what_it_wants(run, server) -> None:
    run({"a": b"1\n"}, accept="text/x")
    assert server.got == [(b"1\n", "text/csv", "text/x")]


def test_a_file_that_fails_is_named_with_its_line_and_leaves_nothing(run, server) -> None:
    server.answers = {b"2\n": [say(400, b"2 is odd")]}
    left, heard = run({"a": b"1\n2\n3\n", "b": b"4\n"})
    assert left == {"b.out": b"4!"}
    assert heard["a"] == (1, "a:2: 400 Bad Request: 2 is odd")


def test_of_a_file_that_has_failed_no_more_is_sent(run, server) -> None:
    server.answers = {b"bad\n": [say(400)]}
    run({"a": b"bad\n" + b"1\n" * 50})
    assert len(server.got) < 10


def test_a_record_that_is_too_large_is_named(run) -> None:
    left, heard = run({"a": b"1\n" + b"x" * 20})
    assert left == {}
    assert heard["a"][1] == "a:2: it is larger than MaxPayloadInMB allows, 0"


def test_how_far_a_long_file_is_is_told_from_time_to_time(run, notes, monkeypatch) -> None:
    run({"a": b"1\n2\n"})
    assert notes == []
    monkeypatch.setattr(transform_job, "REPORT_SECONDS", -1.0)
    run({"a": b"1\n2\n"})
    assert notes == ["a: 1 records so far", "a: 2 records so far"]


def test_a_busy_server_is_asked_again(run, server) -> None:
    server.answers = {b"1\n": [say(503, retry_after=0.01), say(429, retry_after=0.01), UnreachableError("hung up")]}
    left, _ = run({"a": b"1\n"})
    assert left == {"a.out": b"1!"}
    assert len(server.got) == 4


def test_a_server_that_stays_busy_fails_the_file(run, server) -> None:
    server.answers = {b"1\n": [say(503, b"no", retry_after=0.01)] * 2}
    left, heard = run({"a": b"1\n"}, retries=1)
    assert (left, heard["a"][1]) == ({}, "a:1: 503 Service Unavailable: no")


@pytest.mark.parametrize("answer", [say(500), say(413), InvocationError("no answer within 600 s")])
def test_what_asking_again_does_not_help_is_asked_once(run, server, answer) -> None:
    server.answers = {b"1\n": [answer]}
    left, heard = run({"a": b"1\n"})
    assert (left, len(server.got)) == ({}, 1)
    assert heard["a"][1].startswith("a:1: ")


def test_a_file_without_records_becomes_an_empty_one(run, server) -> None:
    assert run({"a": b"\n"}) == ({"a.out": b""}, {"a": (0, "")})


def test_what_an_older_job_made_of_a_file_is_gone(run, server, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.out").write_text("old")
    (tmp_path / "out/other").write_text("mine")
    server.answers = {b"1\n": [say(400)]}
    assert run({"a": b"1\n"})[0] == {"other": b"mine"}


def test_a_stopped_job_leaves_no_half_file(run, server) -> None:
    stop = Stop()
    server.answers = {b"1\n": [say(200, b"1")]}
    stop.set()
    assert run({"a": b"1\n2\n"}, stop=stop) == ({}, {})


def test_files_of_a_folder_are_found_with_those_below(tmp_path) -> None:
    for name in ("b.csv", "a/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = input_files(tmp_path, lambda name: content_type(name, None))
    assert [(source.name, source.content_type) for source in found] == [("a/c.json", "application/json"), ("b.csv", "text/csv")]  # fmt: skip
    (alone,) = input_files(tmp_path / "b.csv", lambda name: content_type(name, None))
    assert alone.name == "b.csv"


def test_a_folder_without_files_is_a_mistake(tmp_path) -> None:
    with pytest.raises(JobError, match="has no file to transform"):
        input_files(tmp_path, str)


def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(tmp_path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FactoryError, match=r"cannot write to .*out: File exists"):
        clear_outputs((), tmp_path / "out")
