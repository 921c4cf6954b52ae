"""Endpoints and batch transform jobs in real containers: an image of the matrix with a model server that has faults."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

IMAGE = "rlimages-test-serve:1"
VW = "sagemaker-rl-vw-container:vw-9.11.9-cpu-py311-debian12"
SERVER = Path(__file__).parent / "model_server.py"
RECIPE = f"""\
FROM {VW}
COPY --chmod=755 serve /usr/local/lib/rlimages/serve
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
"""
ENDPOINT = re.compile(r"InService after .* at (http://127\.0\.0\.1:\d+)")


@pytest.fixture(scope="module")
def image(client, tmp_path_factory) -> Iterator[str]:
    if not client.images.list(VW):
        pytest.fail(f"there is no {VW} in the local store; run: rlimages build --select vw-9.11.9-cpu-debian", pytrace=False)  # fmt: skip
    folder = tmp_path_factory.mktemp("image")
    shutil.copy(SERVER, folder / "serve")
    (folder / "Dockerfile").write_text(RECIPE)
    argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", IMAGE, folder]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    yield IMAGE
    client.images.remove(IMAGE, force=True)


@pytest.fixture
def left(client):
    """The names of the tests' containers and volumes that are there now."""

    def left() -> list[str]:
        names = [container.name for container in client.containers.list(all=True, ignore_removed=True)]
        names += [volume.name for volume in client.volumes.list()]
        return [name for name in names if name.startswith("rlimages-test-serve-")]

    return left


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/name").write_text("clever\n")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "model", ".")
    return tmp_path / "model.tar.gz"


class Served:
    """An endpoint in a process of its own, and what it has said."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.said = ""

    def until(self, pattern: str) -> re.Match:
        for line in self.process.stdout:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without saying {pattern!r}:\n{self.said}")

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        self.said += self.process.stdout.read()
        return self.process.wait(timeout=60)


@pytest.fixture
def serve(image, model, tmp_path):
    """Start an endpoint with some faults; wait for a line where one is given."""
    started: list[Served] = []

    def serve(*words: str, faults: str = "", name: str = image, stderr: int = subprocess.STDOUT) -> Served:
        argv = [sys.executable, "-m", "rlimages", "serve", name, "--model", str(model), "--port", "0", "--env", f"FAULTS={faults}", *words]  # fmt: skip
        pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
        started.append(Served(subprocess.Popen(argv, cwd=tmp_path, **pipes)))
        return started[-1]

    yield serve
    for served in started:
        served.process.terminate()
        served.process.wait(timeout=60)
        served.process.stdout.close()


def say(*words: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "rlimages", *words]
    return subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=120)


def test_an_endpoint_is_in_service_answers_and_ends_with_ctrl_c(serve, left, tmp_path) -> None:
    served = serve()
    address = served.until(ENDPOINT.pattern)[1]
    (tmp_path / "x.csv").write_text("1\n2\n")
    answer = say("invoke", "x.csv", cwd=tmp_path)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"clever 1\nclever 2\n", b"")
    told = json.loads(say("invoke", "x.csv", "--endpoint", address, "--accept", "text/x", "--json", cwd=tmp_path).stdout)  # fmt: skip
    assert (told["address"], told["status"], told["content_type"]) == (address, 200, "text/x")
    assert served.end(signal.SIGINT) == 0
    assert "the model is Read-only file system" in served.said
    assert "the endpoint was stopped; sending SIGTERM to rlimages-test-serve-" in served.said
    assert "Stopped after" in served.said.splitlines()[-1]
    assert not left()


def test_an_answer_that_is_no_2xx_is_a_sentence_and_exit_1(serve, tmp_path) -> None:
    serve().until("InService")
    refused = say("invoke", "-", "--content-type", "text/csv", cwd=tmp_path, stdin=b"fine\nbad")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"answered 400 Bad Request: line 2: bad is bad" in refused.stderr
    unknown = say("invoke", "-", "--content-type", "application/x-npy", cwd=tmp_path)
    assert b"answered 415 Unsupported Media Type: this model reads text" in unknown.stderr
    assert say("invoke", "-", cwd=tmp_path, stdin=b"\0" * (6 * 2**20 + 1)).returncode == 2


def test_invoke_without_an_endpoint_is_a_sentence(client, left, tmp_path) -> None:
    assert not left()
    alone = say("invoke", "-", "--endpoint", "9", cwd=tmp_path)
    assert (alone.returncode, b"nothing answers POST /invocations at http://127.0.0.1:9" in alone.stderr) == (1, True)


def test_endpoints_run_side_by_side_and_are_told_apart_by_name(serve, tmp_path) -> None:
    one, two = serve("--env", "A=b"), serve("--bind-to-port", "9000")
    first, second = one.until(r"(\S+): InService")[1], two.until(r"(\S+): InService")[1]
    both = say("invoke", "-", cwd=tmp_path)
    assert both.returncode == 2
    assert (
        f"several endpoints are running; choose one with --endpoint: {', '.join(sorted((first, second)))}".encode()
        in both.stderr
    )
    assert say("invoke", "-", "--endpoint", second, cwd=tmp_path, stdin=b"x").stdout == b"clever x\n"


def test_the_container_has_the_environment_of_hosting(serve) -> None:
    address = serve("--bind-to-port", "9000", "--region", "eu-west-1").until(ENDPOINT.pattern)[1]
    environment = httpx.get(f"{address}/environment", trust_env=False).json()
    assert environment["SAGEMAKER_BIND_TO_PORT"] == "9000"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert "SAGEMAKER_BATCH" not in environment


def test_an_image_that_promised_nothing_is_not_bound_elsewhere(serve) -> None:
    served = serve("--bind-to-port", "9000", name="debian:bookworm-slim")
    assert served.end() == 2
    assert "has no label com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in served.said


def test_a_server_that_dies_at_its_start_is_told_with_its_last_lines(serve, left) -> None:
    served = serve(faults="dies-at-start")
    assert served.end() == 1
    assert re.search(r"Failed after .*: the container ended by itself: exit code 1\nlast lines of its log:\n  \| there is no model to serve\n$", served.said)  # fmt: skip
    assert not left()


def test_a_server_that_is_never_healthy_is_told_after_the_limit(serve, left) -> None:
    served = serve("--container-startup-timeout", "2", faults="sick")
    assert served.end() == 1
    assert "Failed after" in served.said
    assert "not healthy within 2.0 s: GET /ping was answered with 503 Service Unavailable: out of sorts" in served.said  # fmt: skip
    assert not left()


def test_stopping_it_before_it_is_in_service_is_130(serve, left) -> None:
    served = serve(faults="sick")
    served.until("serving")
    assert served.end(signal.SIGTERM) == 130
    assert not left()


def test_a_server_that_turns_sick_is_told_when_it_does(serve, tmp_path) -> None:
    served = serve()
    address = served.until(ENDPOINT.pattern)[1]
    say("invoke", "-", "--endpoint", address, cwd=tmp_path, stdin=b"get sick")
    began = time.monotonic()
    served.until("Unhealthy after .*: GET /ping was answered with 503 Service Unavailable: out of sorts")
    assert time.monotonic() - began < 10
    assert served.end(signal.SIGINT) == 1


def test_a_server_that_dies_later_is_told_with_its_last_lines(serve, tmp_path) -> None:
    served = serve()
    address = served.until(ENDPOINT.pattern)[1]
    answer = say("invoke", "-", "--endpoint", address, cwd=tmp_path, stdin=b"die")
    assert (answer.returncode, b"nothing answers POST /invocations" in answer.stderr) == (1, True)
    assert served.end() == 1
    assert "the container ended by itself: exit code 9" in served.said
    assert served.said.endswith("  | the end is near\n")


def test_a_port_that_is_taken_has_a_remedy(serve, left) -> None:
    port = serve().until(ENDPOINT.pattern)[1].rpartition(":")[2]
    second = serve("--port", port)
    assert second.end() == 1
    assert f"port {port} of this machine is in use; --port 0 takes a free one" in second.said


def test_a_second_signal_ends_a_server_that_does_not_listen(serve, left) -> None:
    served = serve(faults="deaf")
    served.until("InService")
    served.process.send_signal(signal.SIGINT)
    served.until("sending SIGTERM to")
    assert served.end(signal.SIGINT) == 130
    assert "was killed; its container was removed" in served.said
    assert not left()


@pytest.mark.alone
def test_what_a_killed_command_left_behind_is_removed_by_the_next(serve, left) -> None:
    served = serve()
    served.until("InService")
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    assert len(left()) == 2
    again = serve(faults="dies-at-start")
    again.end()
    assert again.said.count("rlimages: removed container rlimages-test-serve-") == 1
    assert again.said.count("rlimages: removed volume rlimages-test-serve-") == 1
    assert not left()


def test_programs_get_one_json_object_a_line(serve) -> None:
    served = serve("--json", stderr=subprocess.DEVNULL)
    served.until("InService")
    assert served.end(signal.SIGINT) == 0
    assert [json.loads(line)["status"] for line in served.said.splitlines()] == ["InService", "Stopped"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("nowhere.tar.gz", b"there is no such archive or folder"), ("text.tar.gz", b"is not a complete gzip-compressed tar archive"), ("out.tar.gz", b"points outside the model folder")],
)  # fmt: skip
def test_a_model_that_is_none_is_a_sentence_before_anything_starts(image, tmp_path, left, word, sentence) -> None:
    (tmp_path / "text.tar.gz").write_text("I am a text")
    with tarfile.open(tmp_path / "out.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    ended = say("serve", image, "--model", word, cwd=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert not left()


@pytest.fixture
def transform(image, model, tmp_path, left):
    """A batch transform job of the files in `in`: its exit code, its stdout and its stderr."""
    (tmp_path / "in").mkdir()

    def transform(*words: str, faults: str = "") -> tuple[int, str, str]:
        ended = say("transform", image, "--model", str(model), "--input", "in", "--output", "out", "--env", f"FAULTS={faults}", *words, cwd=tmp_path)  # fmt: skip
        assert not left()
        return ended.returncode, ended.stdout.decode(), ended.stderr.decode()

    return transform


def outputs(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_every_file_becomes_one_of_its_own_in_the_same_place(transform, tmp_path) -> None:
    (tmp_path / "in/deep").mkdir()
    (tmp_path / "in/a.csv").write_text("1\n2\n")
    (tmp_path / "in/deep/b.jsonl").write_text("[3]")
    code, said, _ = transform()
    assert code == 0, said
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\nclever 2\n", "deep/b.jsonl.out": "clever [3]\n"}
    assert "Completed after" in said
    assert "outputs: 2 files, 2 records in out" in said


def test_records_are_sent_as_the_container_likes_it_and_kept_in_order(transform, tmp_path) -> None:
    lines = [f"{number} {'x' * 1000}" for number in range(3000)]  # 3 MB; the container takes 1 MB
    (tmp_path / "in/a.csv").write_text("\n".join(lines))
    code, said, _ = transform("--split-type", "Line", faults="slow")
    assert code == 0, said
    assert said.count("invoked with") == 3
    assert (tmp_path / "out/a.csv.out").read_text() == "".join(f"clever {line}\n" for line in lines)


def test_the_job_has_the_last_word_on_its_requests(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n2\n\n3\n")
    words = ["--split-type", "Line", "--batch-strategy", "SingleRecord", "--max-concurrent-transforms", "2"]
    code, said, _ = transform(*words)
    assert (code, said.count("invoked with 1 lines")) == (0, 3)
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\nclever 2\nclever 3\n"}


def test_a_record_that_fails_is_named_and_spoils_its_file_only(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\nbad\n3\n")
    (tmp_path / "in/b.csv").write_text("4\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.csv.out").write_text("of an older job")
    code, said, _ = transform("--split-type", "Line", "--batch-strategy", "SingleRecord")
    assert code == 1
    assert "failed: a.csv:2: 400 Bad Request: line 1: bad is bad" in said
    assert "Failed after" in said
    assert "1 of 2 files could not be transformed" in said
    assert outputs(tmp_path / "out") == {"b.csv.out": "clever 4\n"}


def test_a_busy_server_is_asked_again_when_it_wants_to_be(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n")
    began = time.monotonic()
    code, said, _ = transform(faults="busy")
    assert code == 0, said
    assert time.monotonic() - began > 2
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\n"}
    code, said, _ = transform("--invocations-max-retries", "0", faults="busy")
    assert (code, "failed: a.csv: 503 Service Unavailable: ask later" in said) == (1, True)


def test_a_file_that_is_too_large_is_not_sent(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_bytes(b"x" * (2**20 + 1))
    code, said, _ = transform()
    assert (code, "failed: a.csv: the record is larger than MaxPayloadInMB, 1 MB" in said) == (1, True)
    code, said, _ = transform("--max-payload-in-mb", "2")
    assert (code, "failed: a.csv: 413" in said) == (1, True)


def test_a_server_that_dies_fails_the_job_with_its_last_lines(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("die\n")
    code, said, _ = transform()
    assert code == 1
    assert "Failed after" in said
    assert "the container ended by itself: exit code 9" in said
    assert "  | the end is near\n" in said
    assert outputs(tmp_path / "out") == {}


@pytest.mark.parametrize(("fault", "code"), [("silent", 0), ("odd", 2)])
def test_a_container_need_not_say_how_it_likes_its_batches_but_it_must_make_sense(transform, tmp_path, fault, code) -> None:  # fmt: skip
    (tmp_path / "in/a.csv").write_text("1\n")
    ended, _, complaint = transform(faults=fault)
    assert ended == code
    assert ("the answer to GET /execution-parameters has an invalid MaxConcurrentTransforms" in complaint) == (
        fault == "odd"
    )


def test_a_job_in_json_is_one_object(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n")
    code, said, logs = transform("--json")
    told = json.loads(said)
    assert (code, told["status"], told["files"][0]["output"]) == (0, "Completed", "out/a.csv.out")
    assert "invoked with 1 lines" in logs


def test_a_stopped_job_leaves_no_half_file(image, model, left, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("1\n" * 100)
    argv = [sys.executable, "-m", "rlimages", "transform", image, "--model", str(model), "--input", "in", "--output", "out", "--env", "FAULTS=slow", "--split-type", "Line", "--batch-strategy", "SingleRecord"]  # fmt: skip
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    served = Served(process)
    served.until("invoked with")
    assert served.end(signal.SIGINT) == 130
    assert "Stopped after" in served.said
    assert outputs(tmp_path / "out") == {}
    assert not left()
    process.stdout.close()
