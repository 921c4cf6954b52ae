from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.emulator.containers import open_hosts
from rlimages.emulator.training_job import Channel, InputMode, Job
from rlimages.errors import JobError


class FakeThing:
    """A container or a network: it remembers its options, and what was done to it."""

    def __init__(self, options, *, pieces: tuple[bytes, ...] = (), refusal: str = "") -> None:
        self.options = options
        self.pieces = pieces
        self.refusal = refusal
        self.removed = False

    def remove(self, **_words) -> None:
        self.removed = True

    def start(self) -> None:
        if self.refusal:
            raise APIError("500 Server Error", explanation=self.refusal)

    def logs(self, **_words):
        yield from self.pieces

    def wait(self, timeout) -> dict[str, int]:
        assert timeout is None  # a job may be silent for hours
        return {"StatusCode": 3}


class FakeClient:
    def __init__(self, refused: str = "", **words) -> None:
        self.made: list[FakeThing] = []
        self.network: FakeThing | None = None
        self._refused = refused
        self._words = words
        self.api = SimpleNamespace(create_endpoint_config=lambda **options: options)
        self.containers = SimpleNamespace(create=self._container)
        self.networks = SimpleNamespace(create=self._network)

    def info(self) -> dict[str, int]:
        return {"MemTotal": 1000}

    def _container(self, image, command, **options) -> FakeThing:
        if options["name"].endswith(self._refused or "-"):
            raise APIError("409 Client Error", explanation="no such thing")
        self.made.append(FakeThing({"image": image, "command": command, **options}, **self._words))
        return self.made[-1]

    def _network(self, name, **options) -> FakeThing:
        self.network = FakeThing({"name": name, **options})
        return self.network


@pytest.fixture
def job() -> Job:
    channel = Channel(name="training", source=Path("/x/a.csv"), is_file=True, mode=InputMode.MOUNT)
    return Job(name="j", image="i", region="us-west-2", program="", code={}, parameters={}, channels=(channel,), instance_count=2, environment={"A": "b"}, gpus=-1, max_run=60)  # fmt: skip


def test_each_host_is_a_container_that_the_others_know_by_name(job) -> None:
    client = FakeClient()
    with open_hosts(client, job, {"label": "x"}) as hosts:
        assert [host.name for host in hosts] == ["algo-1", "algo-2"]
    _, options = (container.options for container in client.made)
    assert (options["image"], options["command"], options["name"]) == ("i", ["train"], "j-algo-2")
    assert options["networking_config"] == {"j": {"aliases": ["algo-2"]}}
    assert options["hostname"] == "aws"
    assert options["environment"]["A"] == "b"
    assert options["labels"] == client.network.options["labels"] == {"label": "x"}
    (mount,) = options["mounts"]
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("/x/a.csv", "/opt/ml/input/data/training/a.csv", True)  # fmt: skip


def test_gpus_are_asked_for_where_they_are_wanted(job) -> None:
    client = FakeClient()
    with open_hosts(client, job, {}):
        (request,) = client.made[0].options["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_everything_is_removed_at_the_end(job) -> None:
    client = FakeClient()
    with pytest.raises(ZeroDivisionError), open_hosts(client, job, {}):
        raise ZeroDivisionError
    assert [thing.removed for thing in (*client.made, client.network)] == [True, True, True]


def test_a_host_that_the_engine_refuses_takes_the_others_with_it(job) -> None:
    client = FakeClient(refused="algo-2")
    with pytest.raises(JobError, match="the engine refuses algo-2: no such thing"), open_hosts(client, job, {}):
        pass
    assert [thing.removed for thing in (*client.made, client.network)] == [True, True]


def test_a_program_that_cannot_start_is_an_answer(job) -> None:
    with open_hosts(FakeClient(refusal="no GPU here"), job, {}) as (first, _):
        assert first.start() == "no GPU here"


def test_lines_are_whole_however_the_engine_cuts_them(job) -> None:
    heard: list[str] = []
    client = FakeClient(pieces=(b"one\ntw", b"o \xc3", b"\xbc\n10%\r20%\r\n\xff\nlast"))
    with open_hosts(client, job, {}) as (first, _):
        assert first.follow(heard.append) == 3
    assert heard == ["one", "two ü", "20%", "\ufffd", "last"]


def test_a_channel_that_is_read_from_pipes_is_not_mounted(job) -> None:
    client = FakeClient()
    piped = replace(job, channels=(Channel(name="t", source=Path("/x"), mode=InputMode.PIPE),))
    with open_hosts(client, piped, {}):
        assert client.made[0].options["mounts"] == []
