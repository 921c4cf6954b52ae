"""Endpoints and batch transform jobs in real containers: an image of the matrix with a model server that can fail."""

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
DOCKERFILE = f"""\
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
    (folder / "Dockerfile").write_text(DOCKERFILE)
    argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", IMAGE, folder]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    yield IMAGE
    client.images.remove(IMAGE, force=True)


@pytest.fixture
def list_leftovers(client):
    """Return a function that lists the names of the tests' containers and volumes."""

    def list_leftovers() -> list[str]:
        names = [container.name for container in client.containers.list(all=True, ignore_removed=True)]
        names += [volume.name for volume in client.volumes.list()]
        return [name for name in names if name.startswith("rlimages-test-serve-")]

    return list_leftovers


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/name").write_text("clever\n")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "model", ".")
    return tmp_path / "model.tar.gz"


class EndpointProcess:
    """An endpoint in a separate process, with the output that was read from it."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.output = ""

    def wait_for_line(self, pattern: str) -> re.Match:
        """Read the output up to a line that matches the regular expression `pattern`, and return the match."""
        for line in self.process.stdout:
            self.output += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it ended without printing {pattern!r}:\n{self.output}")

    def end(self, signal_number: int | None = None) -> int:
        """Send the signal, if one is given, wait for the end of the process, and return its exit code."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        self.output += self.process.stdout.read()
        return self.process.wait(timeout=60)


@pytest.fixture
def serve(image, model, tmp_path):
    """Return a function that starts an endpoint; `faults` are those of its model server."""
    endpoints: list[EndpointProcess] = []

    def serve(*arguments: str, faults: str = "", name: str = image, stderr: int = subprocess.STDOUT) -> EndpointProcess:
        argv = [sys.executable, "-m", "rlimages", "serve", name, "--model", str(model), "--port", "0", "--env", f"FAULTS={faults}", *arguments]  # fmt: skip
        pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
        endpoints.append(EndpointProcess(subprocess.Popen(argv, cwd=tmp_path, **pipes)))
        return endpoints[-1]

    yield serve
    for endpoint in endpoints:
        endpoint.process.terminate()
        endpoint.process.wait(timeout=60)
        endpoint.process.stdout.close()


def run_rlimages(*arguments: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "rlimages", *arguments]
    return subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=120)


def test_an_endpoint_serves_requests_until_ctrl_c(serve, list_leftovers, tmp_path) -> None:
    endpoint = serve()
    address = endpoint.wait_for_line(ENDPOINT.pattern)[1]
    (tmp_path / "x.csv").write_text("1\n2\n")
    response = run_rlimages("invoke", "x.csv", cwd=tmp_path)
    assert (response.returncode, response.stdout, response.stderr) == (0, b"clever 1\nclever 2\n", b"")
    values = json.loads(run_rlimages("invoke", "x.csv", "--endpoint", address, "--accept", "text/x", "--json", cwd=tmp_path).stdout)  # fmt: skip
    assert (values["address"], values["status"], values["content_type"]) == (address, 200, "text/x")
    assert endpoint.end(signal.SIGINT) == 0
    assert "the model is Read-only file system" in endpoint.output
    assert "the endpoint was stopped; sending SIGTERM to rlimages-test-serve-" in endpoint.output
    assert "Stopped after" in endpoint.output.splitlines()[-1]
    assert not list_leftovers()


def test_a_response_other_than_2xx_is_reported_with_exit_code_1(serve, tmp_path) -> None:
    serve().wait_for_line("InService")
    rejected = run_rlimages("invoke", "-", "--content-type", "text/csv", cwd=tmp_path, stdin=b"fine\nbad")
    assert (rejected.returncode, rejected.stdout) == (1, b"")
    assert b"answered 400 Bad Request: line 2: bad is bad" in rejected.stderr
    unsupported = run_rlimages("invoke", "-", "--content-type", "application/x-npy", cwd=tmp_path)
    assert b"answered 415 Unsupported Media Type: this model reads text" in unsupported.stderr
    assert run_rlimages("invoke", "-", cwd=tmp_path, stdin=b"\0" * (6 * 2**20 + 1)).returncode == 2


def test_invoke_reports_that_no_endpoint_answers(client, list_leftovers, tmp_path) -> None:
    assert not list_leftovers()
    result = run_rlimages("invoke", "-", "--endpoint", "9", cwd=tmp_path)
    assert (result.returncode, b"nothing answers POST /invocations at http://127.0.0.1:9" in result.stderr) == (1, True)


def test_invoke_asks_for_an_address_if_two_endpoints_run(serve, tmp_path) -> None:
    first_endpoint, second_endpoint = serve("--env", "A=b"), serve("--bind-to-port", "9000")
    first_address, second_address = (
        endpoint.wait_for_line(r"(\S+): InService")[1] for endpoint in (first_endpoint, second_endpoint)
    )
    result = run_rlimages("invoke", "-", cwd=tmp_path)
    assert result.returncode == 2
    assert (
        f"several endpoints are running; choose one with --endpoint: {', '.join(sorted((first_address, second_address)))}".encode()
        in result.stderr
    )
    assert run_rlimages("invoke", "-", "--endpoint", second_address, cwd=tmp_path, stdin=b"x").stdout == b"clever x\n"


def test_the_container_has_the_environment_of_hosting(serve) -> None:
    address = serve("--bind-to-port", "9000", "--region", "eu-west-1").wait_for_line(ENDPOINT.pattern)[1]
    environment = httpx.get(f"{address}/environment", trust_env=False).json()
    assert environment["SAGEMAKER_BIND_TO_PORT"] == "9000"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert "SAGEMAKER_BATCH" not in environment


def test_another_port_needs_the_label_of_the_image(serve) -> None:
    endpoint = serve("--bind-to-port", "9000", name="debian:bookworm-slim")
    assert endpoint.end() == 2
    assert "has no label com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in endpoint.output


def test_a_server_that_exits_at_the_start_is_reported_with_its_last_lines(serve, list_leftovers) -> None:
    endpoint = serve(faults="dies-at-start")
    assert endpoint.end() == 1
    assert re.search(r"Failed after .*: the container ended by itself: exit code 1\nlast lines of its log:\n  \| there is no model to serve\n$", endpoint.output)  # fmt: skip
    assert not list_leftovers()


def test_a_server_that_is_never_healthy_is_reported_after_the_limit(serve, list_leftovers) -> None:
    endpoint = serve("--container-startup-timeout", "2", faults="unhealthy")
    assert endpoint.end() == 1
    assert "Failed after" in endpoint.output
    assert "not healthy within 2.0 s: GET /ping was answered with 503 Service Unavailable: no worker runs" in endpoint.output  # fmt: skip
    assert not list_leftovers()


def test_a_signal_before_the_endpoint_is_in_service_gives_exit_code_130(serve, list_leftovers) -> None:
    endpoint = serve(faults="unhealthy")
    endpoint.wait_for_line("serving")
    assert endpoint.end(signal.SIGTERM) == 130
    assert not list_leftovers()


def test_a_server_that_becomes_unhealthy_is_reported_at_once(serve, tmp_path) -> None:
    endpoint = serve()
    address = endpoint.wait_for_line(ENDPOINT.pattern)[1]
    run_rlimages("invoke", "-", "--endpoint", address, cwd=tmp_path, stdin=b"become unhealthy")
    started_at = time.monotonic()
    endpoint.wait_for_line("Unhealthy after .*: GET /ping was answered with 503 Service Unavailable: no worker runs")
    assert time.monotonic() - started_at < 10
    assert endpoint.end(signal.SIGINT) == 1


def test_a_server_that_exits_later_is_reported_with_its_last_lines(serve, tmp_path) -> None:
    endpoint = serve()
    address = endpoint.wait_for_line(ENDPOINT.pattern)[1]
    response = run_rlimages("invoke", "-", "--endpoint", address, cwd=tmp_path, stdin=b"die")
    assert (response.returncode, b"nothing answers POST /invocations" in response.stderr) == (1, True)
    assert endpoint.end() == 1
    assert "the container ended by itself: exit code 9" in endpoint.output
    assert endpoint.output.endswith("  | the server ends now\n")


def test_the_message_for_a_taken_port_names_a_remedy(serve, list_leftovers) -> None:
    port = serve().wait_for_line(ENDPOINT.pattern)[1].rpartition(":")[2]
    second_endpoint = serve("--port", port)
    assert second_endpoint.end() == 1
    assert f"port {port} of this machine is in use; --port 0 takes a free one" in second_endpoint.output


def test_a_second_signal_kills_a_server_that_ignores_sigterm(serve, list_leftovers) -> None:
    endpoint = serve(faults="ignores-sigterm")
    endpoint.wait_for_line("InService")
    endpoint.process.send_signal(signal.SIGINT)
    endpoint.wait_for_line("sending SIGTERM to")
    assert endpoint.end(signal.SIGINT) == 130
    assert "was killed; its container was removed" in endpoint.output
    assert not list_leftovers()


@pytest.mark.alone
def test_leftovers_of_a_killed_command_are_removed_by_the_next_one(serve, list_leftovers) -> None:
    endpoint = serve()
    endpoint.wait_for_line("InService")
    os.kill(endpoint.process.pid, signal.SIGKILL)
    endpoint.process.wait()
    assert len(list_leftovers()) == 2
    next_endpoint = serve(faults="dies-at-start")
    next_endpoint.end()
    assert next_endpoint.output.count("rlimages: removed container rlimages-test-serve-") == 1
    assert next_endpoint.output.count("rlimages: removed volume rlimages-test-serve-") == 1
    assert not list_leftovers()


def test_json_output_has_one_object_for_each_status(serve) -> None:
    endpoint = serve("--json", stderr=subprocess.DEVNULL)
    endpoint.wait_for_line("InService")
    assert endpoint.end(signal.SIGINT) == 0
    assert [json.loads(line)["status"] for line in endpoint.output.splitlines()] == ["InService", "Stopped"]


@pytest.mark.parametrize(
    ("archive_name", "message"),
    [("nowhere.tar.gz", b"there is no such archive or folder"), ("text.tar.gz", b"is not a complete gzip-compressed tar archive"), ("out.tar.gz", b"points outside the model folder")],
)  # fmt: skip
def test_an_invalid_model_is_reported_before_anything_starts(
    image, tmp_path, list_leftovers, archive_name, message
) -> None:
    (tmp_path / "text.tar.gz").write_text("I am a text")
    with tarfile.open(tmp_path / "out.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    result = run_rlimages("serve", image, "--model", archive_name, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert not list_leftovers()


@pytest.fixture
def transform(image, model, tmp_path, list_leftovers):
    """Return a function that runs a batch transform job on the folder `in` and returns exit code, stdout and stderr."""
    (tmp_path / "in").mkdir()

    def transform(*arguments: str, faults: str = "") -> tuple[int, str, str]:
        result = run_rlimages("transform", image, "--model", str(model), "--input", "in", "--output", "out", "--env", f"FAULTS={faults}", *arguments, cwd=tmp_path)  # fmt: skip
        assert not list_leftovers()
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    return transform


def outputs(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_each_input_file_has_an_output_file_with_the_same_relative_path(transform, tmp_path) -> None:
    (tmp_path / "in/deep").mkdir()
    (tmp_path / "in/a.csv").write_text("1\n2\n")
    (tmp_path / "in/deep/b.jsonl").write_text("[3]")
    code, output, _ = transform()
    assert code == 0, output
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\nclever 2\n", "deep/b.jsonl.out": "clever [3]\n"}
    assert "Completed after" in output
    assert "outputs: 2 files, 2 records in out" in output


def test_records_are_batched_by_the_execution_parameters_and_keep_their_order(transform, tmp_path) -> None:
    lines = [f"{number} {'x' * 1000}" for number in range(3000)]  # 3 MB; the container accepts 1 MB
    (tmp_path / "in/a.csv").write_text("\n".join(lines))
    code, output, _ = transform("--split-type", "Line", faults="slow")
    assert code == 0, output
    assert output.count("invoked with") == 3
    assert (tmp_path / "out/a.csv.out").read_text() == "".join(f"clever {line}\n" for line in lines)


def test_options_of_the_job_override_the_execution_parameters(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n2\n\n3\n")
    arguments = ["--split-type", "Line", "--batch-strategy", "SingleRecord", "--max-concurrent-transforms", "2"]
    code, output, _ = transform(*arguments)
    assert (code, output.count("invoked with 1 lines")) == (0, 3)
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\nclever 2\nclever 3\n"}


def test_a_failed_record_is_named_and_only_its_file_has_no_output(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\nbad\n3\n")
    (tmp_path / "in/b.csv").write_text("4\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.csv.out").write_text("of an older job")
    code, output, _ = transform("--split-type", "Line", "--batch-strategy", "SingleRecord")
    assert code == 1
    assert "failed: a.csv:2: 400 Bad Request: line 1: bad is bad" in output
    assert "Failed after" in output
    assert "1 of 2 files could not be transformed" in output
    assert outputs(tmp_path / "out") == {"b.csv.out": "clever 4\n"}


def test_a_request_is_retried_after_the_delay_that_a_busy_server_asks_for(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n")
    started_at = time.monotonic()
    code, output, _ = transform(faults="busy")
    assert code == 0, output
    assert time.monotonic() - started_at > 2
    assert outputs(tmp_path / "out") == {"a.csv.out": "clever 1\n"}
    code, output, _ = transform("--invocations-max-retries", "0", faults="busy")
    assert (code, "failed: a.csv: 503 Service Unavailable: ask later" in output) == (1, True)


def test_a_file_above_the_payload_limit_is_not_sent(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_bytes(b"x" * (2**20 + 1))
    code, output, _ = transform()
    assert (code, "failed: a.csv: the record is larger than MaxPayloadInMB, 1 MB" in output) == (1, True)
    code, output, _ = transform("--max-payload-in-mb", "2")
    assert (code, "failed: a.csv: 413" in output) == (1, True)


def test_a_server_that_exits_fails_the_job_and_its_last_lines_are_printed(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("die\n")
    code, output, _ = transform()
    assert code == 1
    assert "Failed after" in output
    assert "the container ended by itself: exit code 9" in output
    assert "  | the server ends now\n" in output
    assert outputs(tmp_path / "out") == {}


@pytest.mark.parametrize(("fault", "code"), [("no-parameters", 0), ("invalid-parameters", 2)])
def test_execution_parameters_are_optional_but_must_be_valid(transform, tmp_path, fault, code) -> None:  # fmt: skip
    (tmp_path / "in/a.csv").write_text("1\n")
    exit_code, _, stderr = transform(faults=fault)
    assert exit_code == code
    assert ("the answer to GET /execution-parameters has an invalid MaxConcurrentTransforms" in stderr) == (
        fault == "invalid-parameters"
    )


def test_the_json_output_of_a_job_is_one_object(transform, tmp_path) -> None:
    (tmp_path / "in/a.csv").write_text("1\n")
    code, output, logs = transform("--json")
    values = json.loads(output)
    assert (code, values["status"], values["files"][0]["output"]) == (0, "Completed", "out/a.csv.out")
    assert "invoked with 1 lines" in logs


def test_a_stopped_job_leaves_no_partial_output_file(image, model, list_leftovers, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("1\n" * 100)
    argv = [sys.executable, "-m", "rlimages", "transform", image, "--model", str(model), "--input", "in", "--output", "out", "--env", "FAULTS=slow", "--split-type", "Line", "--batch-strategy", "SingleRecord"]  # fmt: skip
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    endpoint = EndpointProcess(process)
    endpoint.wait_for_line("invoked with")
    assert endpoint.end(signal.SIGINT) == 130
    assert "Stopped after" in endpoint.output
    assert outputs(tmp_path / "out") == {}
    assert not list_leftovers()
    process.stdout.close()
