"""`serve` in a real container: the image of Vowpal Wabbit with the files of this checkout, and a faulty adapter."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from one_cell import REPOSITORY

ROOT = Path(__file__).resolve().parents[2]
VW = os.environ.get("RLIMAGES_TEST_VW", "sagemaker-rl-vw-container:vw-9.11.9-cpu-py311-debian12")
IMAGE = f"{REPOSITORY}:serve"
SERVER = "sagemaker_rl.serving\0"
"""The argument with the name of the server's program. In /proc/PID/cmdline, a zero byte ends each argument."""
DOCKERFILE = f"FROM {VW}\nCOPY --chmod=755 templates/rootfs/ /\nCOPY --chmod=755 vw/rootfs/ /\n"
DOCKERFILE += "COPY --chmod=755 src/sagemaker_rl/ /usr/local/lib/rlimages/python/sagemaker_rl/\n"
TRAIN_PROGRAM = """
from sagemaker_rl import vw_examples
from sagemaker_rl.vw_launcher import Learner, installed, metadata
learner = Learner(metadata(2, version=installed()))
for _ in range(50):
    for now in (0, 1):
        for action in (0, 1):
            observation = [1 - now, now]
            learner.learn(vw_examples.example(observation, action + 1, 0 if action == now else 1, 0.5))
learner.save("/out")
"""
FAULTY_ADAPTER = """
import ctypes, os, time

class Model:
    columns = ("action",)
    workers = 1
    def __init__(self, folder):
        if os.environ.get("DIES_LOADING"):
            ctypes.string_at(0)
        time.sleep(float(os.environ.get("LOADS_FOR", 0)))
    def decide(self, observations):
        print("deciding on", observations, flush=True)
        for observation in observations:
            if observation == "crash":
                ctypes.string_at(0)
            elif isinstance(observation, str):
                raise KeyError(observation)
            # Holding the interpreter's lock, as a library does.
            ctypes.PyDLL(None).usleep(int(observation * 1000000))
        return [{"action": 1} for _ in observations]
"""


class ServingContainer:
    """A serving container, and the requests to it."""

    def __init__(self, container: Any) -> None:
        self.container = container
        container.reload()
        (binding,) = next(bindings for bindings in container.ports.values() if bindings)
        self.url = f"http://127.0.0.1:{binding['HostPort']}"

    def ping(self) -> httpx.Response:
        return httpx.get(f"{self.url}/ping", timeout=5)

    def invoke(self, body: Any, content_type: str = "application/json", **options: Any) -> httpx.Response:
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return httpx.post(
            f"{self.url}/invocations", content=content, headers={"content-type": content_type}, timeout=20, **options
        )

    def wait_until_ready(self) -> "ServingContainer":
        wait_until(self.healthy)
        return self

    def healthy(self) -> bool:
        try:
            return self.ping().status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self.container.logs().decode()

    def pids(self, text: str) -> list[int]:
        """Return the ids of the container's processes whose command line contains `text`."""
        script = f"import os\nfor p in filter(str.isdigit, os.listdir('/proc')):\n try:\n  if {text!r} in open(f'/proc/{{p}}/cmdline').read() and int(p) != os.getpid(): print(p)\n except OSError: pass"
        return sorted(int(pid) for pid in self.container.exec_run(["python", "-c", script]).output.split())

    def kill(self, pid: int, signal_number: int) -> None:
        self.container.exec_run(["python", "-c", f"import os; os.kill({pid}, {signal_number})"])


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def image(client) -> str:
    if not client.images.list(VW):
        pytest.fail(
            f"there is no {VW} in the local store; run: rlimages build --select vw-9.11.9-cpu-debian", pytrace=False
        )
    argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", IMAGE, "-f", "-", str(ROOT)]
    subprocess.run(argv, input=DOCKERFILE.encode(), check=True, stdout=subprocess.DEVNULL)
    return IMAGE


@pytest.fixture(scope="module")
def model(client, image, tmp_path_factory) -> Path:
    """A model with two actions: the first has a reward for the observation [1, 0], the second for [0, 1]."""
    folder = tmp_path_factory.mktemp("model")
    for path in (folder, *folder.parents[:2]):  # one test runs the server as another user
        path.chmod(0o755)
    volumes = {str(folder): {"bind": "/out", "mode": "rw"}}
    client.containers.run(image, ["python", "-c", TRAIN_PROGRAM], volumes=volumes, network_mode="none", remove=True)
    return folder


@pytest.fixture
def run(client, image, model, tmp_path, run_name) -> Iterator[Callable[..., Any]]:
    """Return a function that starts `serve`, or another program, in a container."""
    containers = []
    (tmp_path / "faulty.py").write_text(FAULTY_ADAPTER)

    def run(*arguments: str, folder: Path = model, port: int = 8080, **options: Any) -> Any:
        volumes = {
            str(folder): {"bind": "/opt/ml/model", "mode": "ro"},
            str(tmp_path): {"bind": "/faulty", "mode": "ro"},
        }
        options.setdefault("environment", {})["PYTHONPATH"] = "/faulty"
        container = client.containers.run(
            image, list(arguments or ("serve",)), name=f"rlimages-{run_name}-{len(containers)}", detach=True,
            volumes=volumes, ports={f"{port}/tcp": ("127.0.0.1", None)}, **options,
        )  # fmt: skip
        containers.append(container)
        return container

    yield run
    for container in containers:
        container.remove(force=True)


@pytest.fixture
def serve(run) -> Callable[..., ServingContainer]:
    return lambda **options: ServingContainer(run(**options)).wait_until_ready()


@pytest.fixture
def serve_faulty(run) -> Callable[..., ServingContainer]:
    def serve_faulty(**environment: str) -> ServingContainer:
        arguments = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serving", "faulty")
        return ServingContainer(run(*arguments, environment=environment)).wait_until_ready()

    return serve_faulty


@pytest.fixture
def run_to_end(run) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a server that must end by itself, and returns its exit status and its log."""

    def run_to_end(*arguments: str, **options: Any) -> tuple[int, str]:
        container = run(*arguments, **options)
        status = container.wait(timeout=60)["StatusCode"]
        log = container.logs().decode()
        assert "Traceback" not in log
        return status, log

    return run_to_end


def test_a_response_has_the_format_of_its_request(serve) -> None:
    server = serve()
    reply = server.invoke({"request_type": "observation", "observation": [1, 0]}).json()
    assert set(reply) == {"action", "action_prob", "event_id", "timestamp", "sample_prob", "model_id"}
    assert reply["action_prob"] == pytest.approx(0.95 if reply["action"] == 1 else 0.05, abs=1e-3)
    assert abs(reply["timestamp"] - time.time()) < 60
    row = server.invoke("1,0\n0,1\n", "text/csv")
    assert row.headers["content-type"] == "text/csv"
    assert [len(line.split(",")) for line in row.text.splitlines()] == [6, 6]
    lines = server.invoke("[1, 0]\n[0, 1]", "application/jsonlines").text.splitlines()
    assert [json.loads(line)["model_id"] for line in lines] == ["default_model"] * 2
    assert server.invoke({"request_type": "reward", "event_id": reply["event_id"], "reward": 1}).json() == {
        "status": "failure"
    }
    assert server.invoke({"request_type": "model_id"}).json()["model_id"] == "default_model"
    parameters = httpx.get(f"{server.url}/execution-parameters").json()
    assert parameters["BatchStrategy"] == "MULTI_RECORD"
    assert parameters["MaxPayloadInMB"] == 6
    actions = [line[0] for line in server.invoke("0,1\n" * 500, "text/csv").text.splitlines()]
    assert 440 <= actions.count("2") <= 499


INVALID_REQUESTS = [
    ("{", "invalid JSON"),
    ({"observation": "x"}, "the observation is a list of numbers"),
    ({"observation": []}, "the observation is a list of numbers"),
    ({"observation": [1, "a"]}, 'number 2 of the observation is "a"'),
    ({"observation": [[1, 0]]}, "number 1 of the observation is [1, 0]"),
    ({"observation": [True]}, "number 1 of the observation is true"),
    ({"observation": [10**400]}, "number 1 of the observation is 1000"),
    ('{"observation": [1e400]}', "number 1 of the observation is Infinity"),
    ({"request_type": "learn"}, "request_type is 'learn'"),
    ({"request_type": "reward", "event_id": 1}, "reward is None"),
]


def test_invalid_input_gives_400_and_no_worker_restarts(serve) -> None:
    server = serve()
    for body, message in INVALID_REQUESTS:
        reply = server.invoke(body)
        assert reply.status_code == 400, body
        assert message in reply.text
        assert reply.text.count("\n") == 1
    assert server.invoke("").status_code == 204
    assert server.invoke("<a/>", "text/xml").status_code == 415
    assert httpx.get(f"{server.url}/invocations").status_code == 405
    assert server.invoke([1, 0]).status_code == 200
    assert server.log().count("the model is ready") == len(server.pids("sagemaker_rl.serving.worker"))
    assert "Traceback" not in server.log()


def test_a_body_above_the_limit_gives_413(serve) -> None:
    server = serve(environment={"MAX_CONTENT_LENGTH": str(2**20)})
    assert server.invoke(b"1," * 2**19 + b"1", "text/csv").status_code == 413
    assert httpx.post(f"{server.url}/invocations", content=iter([b"1," * 2**10] * 2**10)).status_code == 413
    assert server.invoke([1, 0]).status_code == 200


def test_a_full_queue_gives_503_and_ping_still_answers(serve_faulty) -> None:
    server = serve_faulty(RLIMAGES_SERVE_QUEUE="2")
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(server.invoke, "3") for _ in range(8)]
        wait_until(lambda: "deciding on [3]" in server.log())
        started_at = time.monotonic()
        assert server.ping().status_code == 200
        assert time.monotonic() - started_at < 1
        statuses = sorted(reply.result().status_code for reply in replies)
    assert statuses == [200, 200] + [503] * 6
    rejected = next(reply.result() for reply in replies if reply.result().status_code == 503)
    assert (rejected.headers["retry-after"], rejected.text) == ("1", "the queue is full: it holds 2 requests\n")


def test_a_model_process_that_crashes_is_restarted(serve_faulty) -> None:
    server = serve_faulty()
    reply = server.invoke('"crash"')
    assert (reply.status_code, reply.text) == (500, "the model's process was ended by SIGSEGV\n")
    server.wait_until_ready()
    assert server.invoke("0").json() == {"action": 1}
    assert "was ended by SIGSEGV; it is started again" in server.log()


def test_a_model_process_that_hangs_is_restarted(serve_faulty) -> None:
    server = serve_faulty(SAGEMAKER_MODEL_SERVER_TIMEOUT="1")
    reply = server.invoke("30")
    assert (reply.status_code, reply.text) == (500, "the model gave no answer within 1 s\n")
    server.wait_until_ready()
    assert server.invoke("0").status_code == 200


def test_an_error_of_the_model_is_reported_in_one_line(serve_faulty) -> None:
    server = serve_faulty()
    reply = server.invoke('"colour"')
    assert (reply.status_code, reply.text) == (500, "the model failed: KeyError: 'colour' (faulty.py:17)\n")
    assert "Traceback" not in server.log()


def test_ping_gives_503_while_the_model_is_loaded(run) -> None:
    arguments = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serve", "faulty")
    server = ServingContainer(run(*arguments, environment={"LOADS_FOR": "8"}))

    def ping() -> httpx.Response | None:
        try:
            return server.ping()
        except httpx.TransportError:
            return None

    wait_until(lambda: ping() is not None)
    assert (ping().status_code, ping().text) == (503, "the model is being loaded\n")
    assert server.invoke("0").status_code == 503
    server.wait_until_ready()
    assert server.invoke("0").status_code == 200


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_restarted_and_its_model_process_ends(serve, signal_number) -> None:
    server = serve(environment={"NUM_WORKERS": "1"})
    (model,) = server.pids("sagemaker_rl.serving.worker")
    main_process, worker = server.pids(SERVER)
    server.kill(worker, signal_number)
    wait_until(lambda: server.pids("sagemaker_rl.serving.worker") not in ([model], []))
    server.wait_until_ready()
    assert server.invoke([1, 0]).status_code == 200
    assert server.pids(SERVER)[0] == main_process
    wait_until(lambda: len(server.pids("sagemaker_rl.serving.worker")) == 1)


def test_a_killed_model_process_is_restarted(serve) -> None:
    server = serve(environment={"NUM_WORKERS": "1"})
    (model,) = server.pids("sagemaker_rl.serving.worker")
    server.kill(model, signal.SIGKILL)
    wait_until(lambda: server.pids("sagemaker_rl.serving.worker") not in ([model], []))
    server.wait_until_ready()
    assert server.invoke([1, 0]).status_code == 200


def test_a_stopped_model_process_is_detected_and_restarted(serve) -> None:
    server = serve(environment={"NUM_WORKERS": "1"})
    (model,) = server.pids("sagemaker_rl.serving.worker")
    server.kill(model, signal.SIGSTOP)
    for _ in range(3):
        reply = server.ping()
        assert (reply.status_code, reply.text) == (503, "the model's process does not answer\n")
    server.wait_until_ready()
    assert model not in server.pids("sagemaker_rl.serving.worker")


def test_a_model_process_that_was_stopped_briefly_is_kept(serve) -> None:
    server = serve(environment={"NUM_WORKERS": "1"})
    (model,) = server.pids("sagemaker_rl.serving.worker")
    server.kill(model, signal.SIGSTOP)
    assert server.ping().status_code == 503
    server.kill(model, signal.SIGCONT)
    server.wait_until_ready()
    assert server.invoke([1, 0]).status_code == 200
    assert server.pids("sagemaker_rl.serving.worker") == [model]


def test_sigterm_lets_running_requests_finish(serve_faulty) -> None:
    server = serve_faulty()
    with ThreadPoolExecutor(1) as pool, httpx.Client() as idle:
        idle.get(f"{server.url}/ping")
        reply = pool.submit(server.invoke, "4")
        wait_until(lambda: "deciding on [4]" in server.log())
        started_at = time.monotonic()
        server.container.kill("SIGTERM")
        assert reply.result().json() == {"action": 1}
        assert server.container.wait(timeout=30)["StatusCode"] == 0
    assert time.monotonic() - started_at < 12


def test_the_server_needs_neither_root_nor_a_writable_file_system(serve) -> None:
    server = serve(read_only=True, user="12345:12345", cap_drop=["ALL"], security_opt=["no-new-privileges"])
    assert server.invoke([1, 0]).status_code == 200


def test_the_server_listens_on_one_port_only(serve) -> None:
    server = serve(port=9000, environment={"SAGEMAKER_BIND_TO_PORT": "9000"})
    rows = server.container.exec_run("cat /proc/net/tcp /proc/net/tcp6").output.decode().splitlines()
    listening = [fields[1] for fields in map(str.split, rows) if fields[3] == "0A"]
    assert listening == [f"00000000:{9000:04X}"]


def test_a_missing_model_ends_the_server(run_to_end, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    status, log = run_to_end(folder=tmp_path / "empty")
    assert status == 65
    assert "rlimages: there is no vw.model and no vw.metadata in /opt/ml/model\n" in log


def test_an_invalid_model_ends_the_server(run_to_end, tmp_path, model) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "vw.model").write_bytes((model / "vw.model").read_bytes()[:100])
    (half / "vw.metadata").write_text("--cb_explore 2")
    status, log = run_to_end(folder=half)
    assert status == 65
    assert "/opt/ml/model/vw.model cannot be loaded: " in log


def test_a_model_that_crashes_while_it_is_loaded_ends_the_server(run_to_end) -> None:
    arguments = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serve", "faulty")
    status, log = run_to_end(*arguments, environment={"DIES_LOADING": "1"})
    assert status == 65
    assert "the model's process was ended by SIGSEGV while it loaded the model" in log


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "message"),
    [
        ((), {"SAGEMAKER_BIND_TO_PORT": "0"}, 78, "SAGEMAKER_BIND_TO_PORT is '0', not a whole number from 1 to 65535"),
        ((), {"GUNICORN_CMD_ARGS": "--no-such-thing"}, 78, "GUNICORN_CMD_ARGS is '--no-such-thing'"),
        (("serve", "now"), {}, 64, "serve takes no arguments, not 'now'"),
        (("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serving", "sagemaker_rl.no_model"), {}, 69, "this image cannot serve: No module named 'sagemaker_rl.no_model'"),
    ],
    ids=["port", "gunicorn", "argument", "adapter"],
)  # fmt: skip
def test_a_server_that_cannot_start_prints_one_message_and_has_its_own_exit_status(
    run_to_end, arguments, environment, status, message
) -> None:
    code, log = run_to_end(*arguments, environment=environment)
    assert code == status
    assert f"rlimages: {message}" in log


def test_slow_clients_do_not_block_ping(serve) -> None:
    server = serve(environment={"NUM_WORKERS": "1"})
    host, port = server.url.removeprefix("http://").split(":")
    slow_clients = [socket.create_connection((host, int(port))) for _ in range(150)]
    try:
        for index, client in enumerate(slow_clients):
            client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 100\r\n" + (b"\r\n1," if index % 2 else b""))
        assert server.ping().status_code == 200
    finally:
        for client in slow_clients:
            client.close()
    assert server.invoke([1, 0]).status_code == 200


def test_the_example_of_the_serving_page_works(image, tmp_path, run_name) -> None:
    page = (ROOT / "docs/serving.md").read_text()
    script = re.search("```sh\n(.*?)```", page, re.DOTALL)[1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"rlimages-{run_name}"
    for old, new in (
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
        ("sagemaker-rl-vw-container:vw-9.11.9-cpu-py311-debian12", image),
        ("rlimages train vw-9.11.9-cpu-debian", f"{sys.executable} -m rlimages train {image}"),
        ("policy", name),
    ):
        assert old in script
        script = script.replace(old, new)
    try:
        result = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    line = next(line for line in result.stdout.splitlines() if '"action_prob"' in line)
    reply = json.loads(line[line.index("{") : line.index("}") + 1])
    assert reply["action_prob"] == pytest.approx(0.95 if reply["action"] == 1 else 0.05, abs=1e-3)
