"""The model server of the in-image library, without any toolkit and without gunicorn."""

import io
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "src"
JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"


class Fake:
    """A model that answers at once: the sum of each observation."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.wait = lambda: None

    def health(self) -> str | None:
        return self.trouble

    def facts(self) -> dict[str, Any]:
        return {"columns": ("action", "note"), "keys": ("left", "right"), "answers": True}

    def ask(self, verb: str, value: Any) -> tuple[str, Any]:
        self.wait()
        if verb == "answer":
            return "ok", [json.dumps({"status": value["request_type"]})]
        try:
            return "ok", [json.dumps({"action": sum(one)}) for one in value]
        except TypeError:
            return "bad", "no list of numbers"


@pytest.fixture
def model() -> Fake:
    return Fake()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def ask(library: Any, model: Fake, said: list[str]) -> Callable[..., tuple[int, dict[str, str], str]]:
    """One request to the application: status, headers, body."""
    servers: dict[str, Any] = {}

    def ask(
        body: str | bytes = b"",
        kind: str | None = JSON,
        path: str = "/invocations",
        method: str = "POST",
        chunked: bool = False,
        **environ: str,
    ) -> tuple[int, dict[str, str], str]:
        settings = {name: value for name, value in environ.items() if not name.startswith("HTTP_")}
        server = servers.setdefault(
            repr(settings), library.serving.app.Server(library.serving.settings.Settings(settings), model, said.append)
        )
        body = body.encode() if isinstance(body, str) else body
        request = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
        if kind is not None:
            request["CONTENT_TYPE"] = kind
        if not chunked:
            request["CONTENT_LENGTH"] = str(len(body))
        request.update({name: value for name, value in environ.items() if name.startswith("HTTP_")})
        got: list[Any] = []
        text = b"".join(server(request, lambda status, headers: got.extend([status, dict(headers)])))
        return int(got[0].split()[0]), got[1], text.decode()

    return ask


# ---- formats


@pytest.mark.parametrize(
    ("kind", "body", "reply"),
    [
        (JSON, '{"observation": [1, 2]}', '{"action": 3}'),
        (JSON, '{"request_type": "OBSERVATION", "observation": [1, 2]}', '{"action": 3}'),
        (JSON, "[1, 2]", '{"action": 3}'),
        (
            JSON,
            '\ufeff{"instances": [[1, 2], {"observation": [3]}]}',
            '{"predictions": [{"action": 3}, {"action": 3}]}',
        ),
        (JSON, '{"request_type": "reward"}', '{"status": "reward"}'),
        (LINES, '[1, 2]\n\n{"observation": [5]}\n', '{"action": 3}\n{"action": 5}\n'),
        (CSV, "1,2\r\n\r\n3,4.5\r\n", "3.0,\n7.5,\n"),
        ("application/json; charset=utf-8", "[1]", '{"action": 1}'),
        (None, "[1]", '{"action": 1}'),
    ],
)
def test_a_reply_has_the_format_of_its_request(ask: Any, kind: str, body: str, reply: str) -> None:
    status, headers, text = ask(body, kind)
    assert (status, text) == (200, reply)
    assert headers["Content-Type"] == (kind or JSON).split(";")[0]


@pytest.mark.parametrize(
    ("accept", "reply"),
    [
        (LINES, '{"action": 3}\n{"action": 4}\n'),
        (JSON, '[{"action": 3}, {"action": 4}]'),
        ("text/html, application/x-ndjson;q=0.5", '{"action": 3}\n{"action": 4}\n'),
        ("*/*", "3.0,\n4.0,\n"),
        ("text/*;q=0.1", "3.0,\n4.0,\n"),
        ("text/csv;q=0.1, application/json;q=0.9", '[{"action": 3}, {"action": 4}]'),
    ],
)
def test_a_client_may_want_another_format(ask: Any, accept: str, reply: str) -> None:
    assert ask("1,2\n4\n", CSV, HTTP_ACCEPT=accept)[2].replace(".0}", "}") == reply


def test_a_default_format_of_replies_can_be_set(ask: Any) -> None:
    assert ask("[1]", SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")[2] == "1,\n"
    assert ask("[1]", SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv", HTTP_ACCEPT=JSON)[2] == '{"action": 1}'


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (JSON, "{", "invalid JSON"),
        (JSON, '{"a": 1}', "the object has no observation"),
        (JSON, "[NaN]", "NaN is not a JSON number"),
        (JSON, "[" * 100_000, "the JSON is nested too deeply"),
        (JSON, b"[\xff]", "the body is not UTF-8: invalid start byte at byte 1"),
        (JSON, '{"instances": []}', "instances is not a non-empty list"),
        (JSON, '{"request_type": 1}', "request_type is 1, not text"),
        (JSON, '"text"', "no list of numbers"),
        (LINES, "[1]\n{\n", "line 2: invalid JSON"),
        (LINES, '[1]\n{"b": 2}', "line 2: the object has no observation"),
        (CSV, "1,2\n1,two\n", "line 2: 'two' is not a number"),
        (CSV, "1,nan\n", "line 1: 'nan' is not a number"),
        (CSV, "1,\n", "line 1: '' is not a number"),
    ],
)
def test_bad_input_is_400_with_its_place(ask: Any, said: list[str], kind: str, body: str, sentence: str) -> None:
    status, _, text = ask(body, kind)
    assert status == 400
    assert sentence in text
    assert text.count("\n") == 1
    assert said == [f"400 /invocations: {text.strip()}"]


@pytest.mark.parametrize("body", ["", b"\n\n"], ids=["empty", "empty lines"])
def test_nothing_asked_is_204(ask: Any, body: str) -> None:
    assert ask(body, LINES)[::2] == (204, "")


def test_a_whole_object_is_an_observation_if_the_model_says_so(ask: Any) -> None:
    assert "no list of numbers" in ask('{"left": 1, "right": 2}')[2]
    assert "no observation, nor left and right" in ask('{"left": 1}')[2]


def test_an_observation_may_have_company(library: Any) -> None:
    body = b'{"request_type": "observation", "observation": [1], "state_in": [0]}'
    keys = ("observation", "state_in")
    assert library.serving.formats.decode(JSON, body, keys).observations == [{"observation": [1], "state_in": [0]}]
    assert library.serving.formats.decode(JSON, b'{"observation": [1]}', keys).observations == [[1]]


# ---- limits


def test_a_long_request_lets_others_have_their_turn(ask: Any, model: Fake) -> None:
    turns: list[int] = []
    model.wait = lambda: turns.append(1)
    assert ask("1\n" * 2500, CSV)[2].count("\n") == 2500
    assert len(turns) == 3


def test_a_body_that_ends_early_is_not_taken_for_a_whole_one(library: Any, model: Fake) -> None:
    server = library.serving.app.Server(settings(library), model, print)
    request = {"REQUEST_METHOD": "POST", "PATH_INFO": "/invocations", "CONTENT_TYPE": CSV, "CONTENT_LENGTH": "9", "wsgi.input": io.BytesIO(b"1,2")}  # fmt: skip
    said: list[str] = []
    assert server(request, lambda status, _: said.append(status)) == [b"the body ended after 3 of 9 bytes\n"]
    assert said == ["400 Bad Request"]


def test_no_request_writes_a_second_line_into_the_log(ask: Any, said: list[str]) -> None:
    ask(path="/a\nrlimages: all is well", method="GET")
    ask('{"request_type": "\\n"}', "text/x\ny")
    assert [line.count("\n") for line in said] == [0, 0]


def test_what_the_server_does_not_know_is_refused(ask: Any) -> None:
    assert ask("<a/>", "text/xml")[0] == 415
    assert ask("[1]", HTTP_ACCEPT="text/html")[0] == 406
    assert ask(path="/")[0] == 404
    status, headers, _ = ask(method="GET")
    assert (status, headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_413(ask: Any, chunked: bool) -> None:
    assert ask("1," * 4 + "1\n", CSV, chunked=chunked, MAX_CONTENT_LENGTH="10")[0] == 200
    assert ask("1," * 5 + "1\n", CSV, chunked=chunked, MAX_CONTENT_LENGTH="10")[0] == 413


def test_a_full_queue_is_503_and_ping_answers(ask: Any, model: Fake) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def wait() -> None:
        entered.release()
        leave.wait(5)

    model.wait = wait
    busy = [threading.Thread(target=ask, args=("[1]",), kwargs={"RLIMAGES_SERVE_QUEUE": "2"}) for _ in range(2)]
    for thread in busy:
        thread.start()
        assert entered.acquire(timeout=5)
    status, headers, text = ask("[1]", RLIMAGES_SERVE_QUEUE="2")
    assert (status, headers["Retry-After"], text) == (503, "1", "the queue is full: it holds 2 requests\n")
    assert ask(path="/ping", method="GET", RLIMAGES_SERVE_QUEUE="2")[0] == 200
    leave.set()
    for thread in busy:
        thread.join()
    model.wait = lambda: None
    assert ask("[1]", RLIMAGES_SERVE_QUEUE="2")[0] == 200


def test_ping_is_what_the_model_says(ask: Any, model: Fake) -> None:
    assert ask(path="/ping", method="GET")[::2] == (200, "")
    model.trouble = "the model is being loaded"
    assert ask(path="/ping", method="GET")[::2] == (503, "the model is being loaded\n")


def test_a_fault_of_the_server_is_one_line(ask: Any, model: Fake, said: list[str]) -> None:
    model.ask = None  # type: ignore[assignment,method-assign]
    status, _, text = ask("[1]")
    assert (status, text) == (500, "the server failed: TypeError\n")
    assert not [line for line in said if "\n" in line or "Traceback" in line]


# ---- settings


def settings(library: Any, **environ: str) -> Any:
    return library.serving.settings.Settings(environ)


def test_settings_are_sagemakers_variables(library: Any) -> None:
    names = {
        "SAGEMAKER_BIND_TO_PORT": "9000",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "2.5",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "100",
        "SAGEMAKER_BASE_DIR": "/x",
    }
    found = settings(library, **names)
    assert (found.port, found.workers, found.seconds, found.payload, found.queue, found.folder) == (9000, 3, 2.5, 20 * 2**20, 100, "/x/model")  # fmt: skip
    parameters = {"MaxConcurrentTransforms": 3, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 20}
    assert found.execution_parameters() == parameters


def test_without_variables_it_is_port_8080_and_6_mb(library: Any) -> None:
    found = settings(library, MAX_CONTENT_LENGTH="", NUM_WORKERS=" ")
    assert (found.port, found.seconds, found.payload, found.queue, found.folder) == (8080, 60, 6 * 2**20, 64, "/opt/ml/model")  # fmt: skip
    assert 1 <= found.workers <= 4
    assert settings(library, SAGEMAKER_MAX_PAYLOAD_IN_MB="0").payload == 100 * 2**20
    assert settings(library, MAX_CONTENT_LENGTH="1000").execution_parameters()["MaxPayloadInMB"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SAGEMAKER_BIND_TO_PORT", "70000"),
        ("NUM_WORKERS", "0"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "nan"),
        ("MAX_CONTENT_LENGTH", "6MB"),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "image/png"),
    ],
)
def test_a_wrong_variable_is_named(library: Any, name: str, value: str) -> None:
    with pytest.raises(library.serving.settings.SettingsError, match=f"^{name} is '{value}', not "):
        settings(library, **{name: value})


# ---- the model's process

ADAPTER = """
import os, signal, sys, time
from sagemaker_rl.serving import ModelError

class Model:
    columns = ("action",)
    def __init__(self, folder):
        if os.path.exists(folder + "/broken"):
            raise ModelError("there is no model")
        if os.path.exists(folder + "/deadly"):
            os.kill(os.getpid(), signal.SIGSEGV)
    def decide(self, observations):
        return [self.one(observation) for observation in observations]
    def one(self, observation):
        if observation == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if observation == "hang":
            time.sleep(60)
        if observation == "nan":
            return {"action": float("nan")}
        if observation == "bad":
            raise ValueError("bad\\nthing")
        return {"action": 1 // observation}
"""


@pytest.fixture
def start(library: Any, tmp_path: Path, said: list[str]) -> Iterator[Callable[..., Any]]:
    """Start the process of a model of the adapter above."""
    (tmp_path / "adapter.py").write_text(ADAPTER)
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{FOLDER}", "PYTHONDONTWRITEBYTECODE": "1"}
    started: list[Any] = []

    def start(seconds: float = 5.0, give_up: Callable[[str], None] = print) -> Any:
        process = library.serving.process.ModelProcess("adapter", str(tmp_path), seconds, said.append, give_up, environ)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


def until(happens: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_model_answers_from_a_process_of_its_own(start: Any) -> None:
    process = start()
    assert process.health() == "the model is being loaded"
    until(lambda: process.health() is None)
    assert process.ask("decide", [1, 1]) == ("ok", ['{"action": 1}', '{"action": 1}'])
    assert process.ask("decide", ["bad"]) == ("bad", "bad thing")
    outcome, sentence = process.ask("decide", [0])
    assert outcome == "failed"
    assert sentence.startswith("ZeroDivisionError: integer ")
    assert sentence.endswith(" (adapter.py:23)")
    assert process.ask("decide", ["nan"])[0] == "failed"
    assert process.facts() == {"columns": ("action",), "keys": (), "answers": False}


def test_a_model_that_dies_or_hangs_is_started_again(library: Any, start: Any, said: list[str]) -> None:
    process = start(seconds=0.3)
    until(lambda: process.health() is None)
    with pytest.raises(library.serving.process.ModelFailure, match="was ended by SIGSEGV"):
        process.ask("decide", ["die"])
    assert process.ask("decide", [1]) == ("ok", ['{"action": 1}'])
    assert "the model's process was ended by SIGSEGV; it is started again" in said
    with pytest.raises(library.serving.process.ModelFailure, match=r"no answer within 0\.3 s"):
        process.ask("decide", ["hang"])
    until(lambda: process.health() is not None)
    assert process.ask("decide", [1]) == ("ok", ['{"action": 1}'])


def test_a_process_that_is_killed_while_idle_is_noticed(start: Any, said: list[str]) -> None:
    process = start()
    until(lambda: process.health() is None)
    os.kill(process._child.process.pid, signal.SIGKILL)
    until(lambda: "the model's process was ended by SIGKILL; it is started again" in said)
    until(lambda: process.health() is None)


def test_a_model_that_cannot_be_loaded_is_given_up(start: Any, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    reasons: list[str] = []
    start(give_up=reasons.append)
    until(lambda: reasons)
    assert reasons == ["there is no model"]


# ---- Vowpal Wabbit's adapter, without the library


def test_a_model_is_found_wherever_it_is_in_the_archive(library: Any, tmp_path: Path) -> None:
    with pytest.raises(library.serving.ModelError, match=r"there is no vw.model and no vw.metadata in "):
        library.vw.policy.find(str(tmp_path))
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/vw.model").touch()
    (tmp_path / "vw.metadata").touch()
    assert library.vw.policy.find(str(tmp_path)) == (f"{tmp_path}/a/b/vw.model", f"{tmp_path}/vw.metadata")


def test_a_model_says_which_version_wrote_it(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "vw.model"
    path.write_bytes(b"\x07\0\0\x009.11.9\0\x01\0\0\0\0m")
    assert library.vw.policy.written_by(str(path)) == (9, 11)
    path.write_bytes(b"nothing")
    with pytest.raises(library.serving.ModelError, match="is not a model of Vowpal Wabbit"):
        library.vw.policy.written_by(str(path))


def test_options_that_write_files_or_learn_are_left_out(library: Any) -> None:
    text = "--cb_explore 4 --epsilon 0.1 -f x --save_resume -p /dev/stdout --cache_file=c"
    assert library.vw.policy.options(text) == ["--cb_explore", "4", "--epsilon", "0.1"]


class Ranked:
    """Vowpal Wabbit, for a policy that ranks: the more features an action has, the likelier it is; the last is certain."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def example(self, line: str) -> str:
        return line

    def finish_example(self, lines: list[str]) -> None:
        self.asked.append(lines)

    def predict(self, lines: list[str]) -> list[float]:
        actions = [line for line in lines if not line.startswith("shared")]
        return [0.0] * (len(actions) - 1) + [1.0]


def test_a_ranking_asks_again_without_what_it_has_drawn(library: Any) -> None:
    vw = Ranked()
    policy = library.vw.policy.Ranking(vw, {"top_k": 2})
    question = {"shared_context": [0.5, 2], "actions_context": [[1], [0], [3]], "user_id": 7}
    assert policy.decide(question, random.Random(1)) == {"actions": [2, 1], "action_probs": [1.0, 1.0]}
    shared = "shared |s 1:0.5 2:2 user_7"
    assert vw.asked == [[shared, "|d 3:1", "|d 3:0", "|d 3:3"], [shared, "|d 3:1", "|d 3:0"]]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ([1], "an observation is an object with actions_context"),
        ({"actions_context": []}, "actions_context is a list of lists"),
        ({"actions_context": [[1], "x"]}, 'action 1 is a list of numbers, not "x"'),
        ({"actions_context": [[1]], "top_k": 2}, "top_k is 2, not from 1 to 1"),
        ({"actions_context": [[1]], "user_id": "a b"}, 'user_id is "a b", not a number or one word'),
        ({"actions_context": [[1]], "shared_context": 1}, "shared_context is a list of numbers, not 1"),
    ],
)
def test_a_ranking_refuses_what_is_no_question(library: Any, question: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        library.vw.policy.Ranking(Ranked(), {}).decide(question, random.Random(1))


# ---- the log of decisions


class Firehose:
    """Fails as often as it is told, then takes all but what it is told to refuse once."""

    def __init__(self, fails: int = 0, refuses: set[bytes] | None = None) -> None:
        self.fails, self.refuses = fails, refuses or set()
        self.taken: list[bytes] = []

    def put_record_batch(self, DeliveryStreamName: str, Records: list[dict[str, bytes]]) -> dict[str, Any]:
        assert DeliveryStreamName == "stream"
        if self.fails:
            self.fails -= 1
            raise OSError("no\nnetwork")
        answers = []
        for record in Records:
            if record["Data"] in self.refuses:
                self.refuses.remove(record["Data"])
                answers.append({"ErrorCode": "Slow", "ErrorMessage": "slow down"})
            else:
                self.taken.append(record["Data"])
                answers.append({"RecordId": "1"})
        return {"FailedPutCount": sum("ErrorCode" in answer for answer in answers), "RequestResponses": answers}


def test_every_record_arrives_once_also_after_failures(library: Any, said: list[str]) -> None:
    firehose = Firehose(fails=3, refuses={b"2\n"})
    log = library.vw.log.DecisionLog("stream", firehose, said.append, lambda _: None)
    assert all(log.add(number) for number in range(120))
    log.close(5)
    assert sorted(firehose.taken) == sorted(f"{number}\n".encode() for number in range(120))
    assert said == []


def test_records_that_are_lost_are_counted(library: Any, said: list[str]) -> None:
    log = library.vw.log.DecisionLog("stream", Firehose(fails=5), said.append, lambda _: None)
    log.add({"a": 1})
    log.close(5)
    assert said == ["stream: 1 records are lost: no network"]


def test_a_log_without_a_stream_is_a_sentence(library: Any) -> None:
    assert library.vw.log.from_environment({"FIREHOSE_STREAM": "s"}) is None
    with pytest.raises(library.vw.log.LogError, match="FIREHOSE_STREAM names no stream"):
        library.vw.log.from_environment({"LOG_INFERENCE_DATA": "True"})
