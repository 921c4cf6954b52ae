"""The model that a job left behind is served on port 8080: pings, predictions, rewards.

What a server reads and answers is documented with SageMaker's own VW image, `vw-serving` 0.1.
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
SECONDS = 60

Ask = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, train_in) -> Path:
    """What SageMaker unpacks to /opt/ml/model."""
    folder = tmp_path_factory.mktemp("serving")
    log = bandit.write_log(folder / "train", 500)
    hyperparameters = {"num_actions": bandit.ACTIONS, "exploration_policy": "--epsilon 0.1"}
    trained = train_in(folder, "vw/train_bandit.py", hyperparameters, {"train": log})
    (folder / "model").mkdir()
    subprocess.run(["tar", "-xzf", trained.output / "model.tar.gz", "-C", folder / "model"], check=True)
    return folder / "model"


@pytest.fixture(scope="module")
def ask(client: docker.DockerClient, image: str, model: Path) -> Iterator[Ask]:
    """Asks the server: status and body. The server has answered a ping."""
    container = client.containers.run(
        image,
        "serve",
        detach=True,
        ports={"8080/tcp": ("127.0.0.1", None)},
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
    )

    def ask(path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        container.reload()
        port = container.ports["8080/tcp"][0]["HostPort"]
        words = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", None if body is None else body.encode(), words
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        deadline = time.monotonic() + SECONDS
        while not pings(ask):
            container.reload()
            if container.status != "running" or time.monotonic() > deadline:
                pytest.fail(f"the server is {container.status}; it said:\n{container.logs().decode()}", pytrace=False)
            time.sleep(0.2)
        yield ask
    finally:
        container.remove(force=True, v=True)


def pings(ask: Ask) -> bool:
    try:
        return ask("/ping")[0] == 200
    except (OSError, KeyError):
        return False


def invoke(ask: Ask, question: dict[str, object]) -> dict[str, object]:
    status, body = ask("/invocations", json.dumps(question), Content_Type="application/json")
    assert status == 200, body
    return json.loads(body)


def test_a_prediction_has_all_its_keys(ask: Ask) -> None:
    answer = invoke(ask, {"request_type": "observation", "observation": bandit.situation(2)})
    assert set(answer) == KEYS
    assert answer["action"] in range(1, bandit.ACTIONS + 1)
    assert 0 < answer["action_prob"] <= 1


def test_the_policy_has_learned_what_pays(ask: Ask) -> None:
    """Epsilon is 0.1: of 80 decisions chance alone would get 20 right."""
    right = sum(
        invoke(ask, {"observation": bandit.situation(number)})["action"] == number + 1
        for number in list(range(bandit.ACTIONS)) * 20
    )
    assert right > 50


def test_many_observations_get_an_answer_a_line(ask: Ask) -> None:
    body = "".join(json.dumps(bandit.situation(number)) + "\n" for number in range(bandit.ACTIONS))
    status, answer = ask("/invocations", body, Content_Type="application/jsonlines", Accept="application/jsonlines")
    assert status == 200, answer
    assert [set(json.loads(line)) for line in answer.splitlines() if line.strip()] == [KEYS] * bandit.ACTIONS


def test_the_model_can_be_asked_for(ask: Ask) -> None:
    assert "model_id" in invoke(ask, {"request_type": "model_id"})


def test_what_is_no_observation_is_refused(ask: Ask) -> None:
    status, _ = ask("/invocations", "1,2", Content_Type="application/x-unknown")
    assert status == 415
