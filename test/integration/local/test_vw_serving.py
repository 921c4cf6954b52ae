"""Serve the model of a training job on port 8080: pings, predictions and model ids.

The requests and responses are those of SageMaker's own VW image, `vw-serving` 0.1.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import bandit
import docker
import pytest

pytestmark = pytest.mark.toolkits("vw")

KEYS = {"action", "action_prob", "event_id", "timestamp", "sample_prob", "model_id"}
STARTUP_SECONDS = 60

Send = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, train_in_folder) -> Path:
    """Return a folder with the unpacked model, as SageMaker has it in /opt/ml/model."""
    folder = tmp_path_factory.mktemp("serving")
    log = bandit.write_log(folder / "train", 500)
    hyperparameters = {"num_actions": bandit.ACTIONS, "exploration_policy": "--epsilon 0.1"}
    result = train_in_folder(folder, "vw/train_bandit.py", hyperparameters, {"train": log})
    (folder / "model").mkdir()
    subprocess.run(["tar", "-xzf", result.output / "model.tar.gz", "-C", folder / "model"], check=True)
    return folder / "model"


@pytest.fixture(scope="module")
def send(client: docker.DockerClient, image: str, model: Path) -> Iterator[Send]:
    """Return a function that sends a request to a healthy server and returns the status and body of the response."""
    container = client.containers.run(
        image,
        "serve",
        detach=True,
        ports={"8080/tcp": ("127.0.0.1", None)},
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
    )

    def send(path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        container.reload()
        port = container.ports["8080/tcp"][0]["HostPort"]
        http_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", None if body is None else body.encode(), http_headers
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        deadline = time.monotonic() + STARTUP_SECONDS
        while not is_healthy(send):
            container.reload()
            if container.status != "running" or time.monotonic() > deadline:
                pytest.fail(f"the server is {container.status}; its log:\n{container.logs().decode()}", pytrace=False)
            time.sleep(0.2)
        yield send
    finally:
        container.remove(force=True, v=True)


def is_healthy(send: Send) -> bool:
    try:
        return send("/ping")[0] == 200
    except (OSError, KeyError):
        return False


def invoke(send: Send, body_values: dict[str, object]) -> dict[str, object]:
    status, body = send("/invocations", json.dumps(body_values), Content_Type="application/json")
    assert status == 200, body
    return json.loads(body)


def test_a_prediction_has_all_its_keys(send: Send) -> None:
    response = invoke(send, {"request_type": "observation", "observation": bandit.observation(2)})
    assert set(response) == KEYS
    assert response["action"] in range(1, bandit.ACTIONS + 1)
    assert 0 < response["action_prob"] <= 1


def test_the_policy_has_learned_the_paying_actions(send: Send) -> None:
    """Epsilon is 0.1. Of 80 random decisions, 20 would be correct."""
    correct = sum(
        invoke(send, {"observation": bandit.observation(number)})["action"] == number + 1
        for number in list(range(bandit.ACTIONS)) * 20
    )
    assert correct > 50


def test_each_observation_has_one_line_in_the_response(send: Send) -> None:
    body = "".join(json.dumps(bandit.observation(number)) + "\n" for number in range(bandit.ACTIONS))
    status, response = send("/invocations", body, Content_Type="application/jsonlines", Accept="application/jsonlines")
    assert status == 200, response
    assert [set(json.loads(line)) for line in response.splitlines() if line.strip()] == [KEYS] * bandit.ACTIONS


def test_the_model_id_can_be_requested(send: Send) -> None:
    assert "model_id" in invoke(send, {"request_type": "model_id"})


def test_an_unknown_content_type_is_refused(send: Send) -> None:
    status, _ = send("/invocations", "1,2", Content_Type="application/x-unknown")
    assert status == 415
