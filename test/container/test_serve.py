"""`serve` in a real container: Vowpal Wabbit's image with this tree's files over it, and adapters that misbehave."""

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
"""The argument that names the server's program: in /proc/PID/cmdline a zero byte ends each."""
RECIPE = f"FROM {VW}\nCOPY --chmod=755 templates/rootfs/ /\nCOPY --chmod=755 vw/rootfs/ /\n"
RECIPE += "COPY --chmod=755 src/sagemaker_rl/ /usr/local/lib/rlimages/python/sagemaker_rl/\n"
LEARN = """
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
FAULTY = """
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


class Served:
    """A serving container, and how to ask it."""

    def __init__(self, container: Any) -> None:
        self.container = container
        container.reload()
        (binding,) = next(bindings for bindings in container.ports.values() if bindings)
        self.url = f"http://127.0.0.1:{binding['HostPort']}"

    def ping(self) -> httpx.Response:
        return httpx.get(f"{self.url}/ping", timeout=5)

    def invoke(self, body: Any, kind: str = "application/json", **options: Any) -> httpx.Response:
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return httpx.post(
            f"{self.url}/invocations", content=content, headers={"content-type": kind}, timeout=20, **options
        )

    def ready(self) -> "Served":
        until(self.healthy)
        return self

    def healthy(self) -> bool:
        try:
            return self.ping().status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self.container.logs().decode()

    def pids(self, word: str) -> list[int]:
        """The processes inside, as the container numbers them, whose command line has the word."""
        script = f"import os\nfor p in filter(str.isdigit, os.listdir('/proc')):\n try:\n  if {word!r} in open(f'/proc/{{p}}/cmdline').read() and int(p) != os.getpid(): print(p)\n except OSError: pass"
        return sorted(int(word) for word in self.container.exec_run(["python", "-c", script]).output.split())

    def kill(self, pid: int, number: int) -> None:
        self.container.exec_run(["python", "-c", f"import os; os.kill({pid}, {number})"])


def until(happens: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def image(client) -> str:
    if not client.images.list(VW):
        pytest.fail(
            f"there is no {VW} in the local store; run: rlimages build --select vw-9.11.9-cpu-debian", pytrace=False
        )
    argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", "-t", IMAGE, "-f", "-", str(ROOT)]
    subprocess.run(argv, input=RECIPE.encode(), check=True, stdout=subprocess.DEVNULL)
    return IMAGE


@pytest.fixture(scope="module")
def model(client, image, tmp_path_factory) -> Path:
    """A model of two actions: the first pays in the situation [1, 0], the second in [0, 1]."""
    folder = tmp_path_factory.mktemp("model")
    for place in (folder, *folder.parents[:2]):  # for the server that is not root
        place.chmod(0o755)
    volumes = {str(folder): {"bind": "/out", "mode": "rw"}}
    client.containers.run(image, ["python", "-c", LEARN], volumes=volumes, network_mode="none", remove=True)
    return folder


@pytest.fixture
def run(client, image, model, tmp_path, run_name) -> Iterator[Callable[..., Any]]:
    """Start `serve`, or the server with the faulty adapter, in a container."""
    started = []
    (tmp_path / "faulty.py").write_text(FAULTY)

    def run(*words: str, folder: Path = model, port: int = 8080, **options: Any) -> Any:
        volumes = {
            str(folder): {"bind": "/opt/ml/model", "mode": "ro"},
            str(tmp_path): {"bind": "/faulty", "mode": "ro"},
        }
        options.setdefault("environment", {})["PYTHONPATH"] = "/faulty"
        container = client.containers.run(
            image, list(words or ("serve",)), name=f"rlimages-{run_name}-{len(started)}", detach=True,
            volumes=volumes, ports={f"{port}/tcp": ("127.0.0.1", None)}, **options,
        )  # fmt: skip
        started.append(container)
        return container

    yield run
    for container in started:
        container.remove(force=True)


@pytest.fixture
def serve(run) -> Callable[..., Served]:
    return lambda **options: Served(run(**options)).ready()


@pytest.fixture
def faulty(run) -> Callable[..., Served]:
    def faulty(**environment: str) -> Served:
        words = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serving", "faulty")
        return Served(run(*words, environment=environment)).ready()

    return faulty


@pytest.fixture
def ended(run) -> Callable[..., tuple[int, str]]:
    """The exit status and the last line of a server that does not stay."""

    def ended(*words: str, **options: Any) -> tuple[int, str]:
        container = run(*words, **options)
        status = container.wait(timeout=60)["StatusCode"]
        said = container.logs().decode()
        assert "Traceback" not in said
        return status, said

    return ended


def test_it_answers_in_the_format_of_the_question(serve) -> None:
    served = serve()
    reply = served.invoke({"request_type": "observation", "observation": [1, 0]}).json()
    assert set(reply) == {"action", "action_prob", "event_id", "timestamp", "sample_prob", "model_id"}
    assert reply["action_prob"] == pytest.approx(0.95 if reply["action"] == 1 else 0.05, abs=1e-3)
    assert abs(reply["timestamp"] - time.time()) < 60
    row = served.invoke("1,0\n0,1\n", "text/csv")
    assert row.headers["content-type"] == "text/csv"
    assert [len(line.split(",")) for line in row.text.splitlines()] == [6, 6]
    lines = served.invoke("[1, 0]\n[0, 1]", "application/jsonlines").text.splitlines()
    assert [json.loads(line)["model_id"] for line in lines] == ["default_model"] * 2
    assert served.invoke({"request_type": "reward", "event_id": reply["event_id"], "reward": 1}).json() == {
        "status": "failure"
    }
    assert served.invoke({"request_type": "model_id"}).json()["model_id"] == "default_model"
    parameters = httpx.get(f"{served.url}/execution-parameters").json()
    assert parameters["BatchStrategy"] == "MULTI_RECORD"
    assert parameters["MaxPayloadInMB"] == 6
    actions = [line[0] for line in served.invoke("0,1\n" * 500, "text/csv").text.splitlines()]
    assert 440 <= actions.count("2") <= 499


BAD = [
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


def test_bad_input_is_400_and_no_worker_minds(serve) -> None:
    served = serve()
    for body, sentence in BAD:
        reply = served.invoke(body)
        assert reply.status_code == 400, body
        assert sentence in reply.text
        assert reply.text.count("\n") == 1
    assert served.invoke("").status_code == 204
    assert served.invoke("<a/>", "text/xml").status_code == 415
    assert httpx.get(f"{served.url}/invocations").status_code == 405
    assert served.invoke([1, 0]).status_code == 200
    assert served.log().count("the model is ready") == len(served.pids("sagemaker_rl.serving.worker"))
    assert "Traceback" not in served.log()


def test_a_body_above_the_limit_is_413(serve) -> None:
    served = serve(environment={"MAX_CONTENT_LENGTH": str(2**20)})
    assert served.invoke(b"1," * 2**19 + b"1", "text/csv").status_code == 413
    assert httpx.post(f"{served.url}/invocations", content=iter([b"1," * 2**10] * 2**10)).status_code == 413
    assert served.invoke([1, 0]).status_code == 200


def test_a_busy_model_is_503_and_ping_answers(faulty) -> None:
    served = faulty(RLIMAGES_SERVE_QUEUE="2")
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(served.invoke, "3") for _ in range(8)]
        until(lambda: "deciding on [3]" in served.log())
        began = time.monotonic()
        assert served.ping().status_code == 200
        assert time.monotonic() - began < 1
        statuses = sorted(reply.result().status_code for reply in replies)
    assert statuses == [200, 200] + [503] * 6
    refused = next(reply.result() for reply in replies if reply.result().status_code == 503)
    assert (refused.headers["retry-after"], refused.text) == ("1", "the queue is full: it holds 2 requests\n")


def test_a_model_that_crashes_is_replaced(faulty) -> None:
    served = faulty()
    reply = served.invoke('"crash"')
    assert (reply.status_code, reply.text) == (500, "the model's process was ended by SIGSEGV\n")
    served.ready()
    assert served.invoke("0").json() == {"action": 1}
    assert "was ended by SIGSEGV; it is started again" in served.log()


def test_a_model_that_hangs_is_replaced(faulty) -> None:
    served = faulty(SAGEMAKER_MODEL_SERVER_TIMEOUT="1")
    reply = served.invoke("30")
    assert (reply.status_code, reply.text) == (500, "the model gave no answer within 1 s\n")
    served.ready()
    assert served.invoke("0").status_code == 200


def test_a_fault_of_the_model_is_one_line(faulty) -> None:
    served = faulty()
    reply = served.invoke('"colour"')
    assert (reply.status_code, reply.text) == (500, "the model failed: KeyError: 'colour' (faulty.py:17)\n")
    assert "Traceback" not in served.log()


def test_while_the_model_loads_ping_is_503(run) -> None:
    words = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serve", "faulty")
    served = Served(run(*words, environment={"LOADS_FOR": "8"}))

    def answer() -> httpx.Response | None:
        try:
            return served.ping()
        except httpx.TransportError:
            return None

    until(lambda: answer() is not None)
    assert (answer().status_code, answer().text) == (503, "the model is being loaded\n")
    assert served.invoke("0").status_code == 503
    served.ready()
    assert served.invoke("0").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_is_killed_is_replaced_and_leaves_no_model_behind(serve, number) -> None:
    served = serve(environment={"NUM_WORKERS": "1"})
    (model,) = served.pids("sagemaker_rl.serving.worker")
    master, worker = served.pids(SERVER)
    served.kill(worker, number)
    until(lambda: served.pids("sagemaker_rl.serving.worker") not in ([model], []))
    served.ready()
    assert served.invoke([1, 0]).status_code == 200
    assert served.pids(SERVER)[0] == master
    until(lambda: len(served.pids("sagemaker_rl.serving.worker")) == 1)


def test_a_model_that_is_killed_is_replaced(serve) -> None:
    served = serve(environment={"NUM_WORKERS": "1"})
    (model,) = served.pids("sagemaker_rl.serving.worker")
    served.kill(model, signal.SIGKILL)
    until(lambda: served.pids("sagemaker_rl.serving.worker") not in ([model], []))
    served.ready()
    assert served.invoke([1, 0]).status_code == 200


def test_a_model_that_is_stopped_is_noticed_and_replaced(serve) -> None:
    served = serve(environment={"NUM_WORKERS": "1"})
    (model,) = served.pids("sagemaker_rl.serving.worker")
    served.kill(model, signal.SIGSTOP)
    for _ in range(3):
        reply = served.ping()
        assert (reply.status_code, reply.text) == (503, "the model's process does not answer\n")
    served.ready()
    assert model not in served.pids("sagemaker_rl.serving.worker")


def test_a_model_that_was_stopped_for_a_moment_is_kept(serve) -> None:
    served = serve(environment={"NUM_WORKERS": "1"})
    (model,) = served.pids("sagemaker_rl.serving.worker")
    served.kill(model, signal.SIGSTOP)
    assert served.ping().status_code == 503
    served.kill(model, signal.SIGCONT)
    served.ready()
    assert served.invoke([1, 0]).status_code == 200
    assert served.pids("sagemaker_rl.serving.worker") == [model]


def test_sigterm_lets_requests_end(faulty) -> None:
    served = faulty()
    with ThreadPoolExecutor(1) as pool, httpx.Client() as idle:
        idle.get(f"{served.url}/ping")
        reply = pool.submit(served.invoke, "4")
        until(lambda: "deciding on [4]" in served.log())
        began = time.monotonic()
        served.container.kill("SIGTERM")
        assert reply.result().json() == {"action": 1}
        assert served.container.wait(timeout=30)["StatusCode"] == 0
    assert time.monotonic() - began < 12


def test_it_needs_neither_root_nor_a_writable_file_system(serve) -> None:
    served = serve(read_only=True, user="12345:12345", cap_drop=["ALL"], security_opt=["no-new-privileges"])
    assert served.invoke([1, 0]).status_code == 200


def test_it_listens_on_one_port(serve) -> None:
    served = serve(port=9000, environment={"SAGEMAKER_BIND_TO_PORT": "9000"})
    rows = served.container.exec_run("cat /proc/net/tcp /proc/net/tcp6").output.decode().splitlines()
    listening = [fields[1] for fields in map(str.split, rows) if fields[3] == "0A"]
    assert listening == [f"00000000:{9000:04X}"]


def test_a_model_that_is_not_there_ends_it(ended, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    status, said = ended(folder=tmp_path / "empty")
    assert status == 65
    assert "rlimages: there is no vw.model and no vw.metadata in /opt/ml/model\n" in said


def test_a_model_that_is_none_ends_it(ended, tmp_path, model) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "vw.model").write_bytes((model / "vw.model").read_bytes()[:100])
    (half / "vw.metadata").write_text("--cb_explore 2")
    status, said = ended(folder=half)
    assert status == 65
    assert "/opt/ml/model/vw.model cannot be loaded: " in said


def test_a_model_that_dies_while_it_is_loaded_ends_it(ended) -> None:
    words = ("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serve", "faulty")
    status, said = ended(*words, environment={"DIES_LOADING": "1"})
    assert status == 65
    assert "the model's process was ended by SIGSEGV while it loaded the model" in said


@pytest.mark.parametrize(
    ("words", "environment", "status", "sentence"),
    [
        ((), {"SAGEMAKER_BIND_TO_PORT": "0"}, 78, "SAGEMAKER_BIND_TO_PORT is '0', not a whole number from 1 to 65535"),
        ((), {"GUNICORN_CMD_ARGS": "--no-such-thing"}, 78, "GUNICORN_CMD_ARGS is '--no-such-thing'"),
        (("serve", "now"), {}, 64, "serve takes no arguments, not 'now'"),
        (("/usr/local/lib/rlimages/image-python", "-m", "sagemaker_rl.serving", "sagemaker_rl.no_model"), {}, 69, "this image cannot serve: No module named 'sagemaker_rl.no_model'"),
    ],
    ids=["port", "gunicorn", "argument", "adapter"],
)  # fmt: skip
def test_what_cannot_be_served_is_a_sentence_and_a_status(ended, words, environment, status, sentence) -> None:
    code, said = ended(*words, environment=environment)
    assert code == status
    assert f"rlimages: {sentence}" in said


def test_slow_clients_keep_nobody_from_ping(serve) -> None:
    served = serve(environment={"NUM_WORKERS": "1"})
    host, port = served.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(150)]
    try:
        for place, client in enumerate(slow):
            client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 100\r\n" + (b"\r\n1," if place % 2 else b""))
        assert served.ping().status_code == 200
    finally:
        for client in slow:
            client.close()
    assert served.invoke([1, 0]).status_code == 200


def test_the_example_of_the_page_answers(image, tmp_path, run_name) -> None:
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
        ended = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    line = next(line for line in ended.stdout.splitlines() if '"action_prob"' in line)
    reply = json.loads(line[line.index("{") : line.index("}") + 1])
    assert reply["action_prob"] == pytest.approx(0.95 if reply["action"] == 1 else 0.05, abs=1e-3)
