from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.emulator.containers import open_hosts
from rlimages.emulator.training_job import Channel, InputMode, TrainingJob
from rlimages.errors import JobError


class FakeResource:
    """A container or a network: it records its options, and whether it was removed."""

    def __init__(self, options, *, chunks: tuple[bytes, ...] = (), start_error: str = "") -> None:
        self.options = options
        self.chunks = chunks
        self.start_error = start_error
        self.removed = False

    def remove(self, **_options) -> None:
        self.removed = True

    def start(self) -> None:
        if self.start_error:
            raise APIError("500 Server Error", explanation=self.start_error)

    def logs(self, **_options):
        yield from self.chunks

    def wait(self, timeout) -> dict[str, int]:
        assert timeout is None  # a job may be silent for hours
        return {"StatusCode": 3}


class FakeClient:
    """A Docker client that refuses to create the container whose name ends with `refused`."""

    def __init__(self, refused: str = "", **options) -> None:
        self.created: list[FakeResource] = []
        self.network: FakeResource | None = None
        self._refused = refused
        self._options = options
        self.api = SimpleNamespace(create_endpoint_config=lambda **options: options)
        self.containers = SimpleNamespace(create=self._container)
        self.networks = SimpleNamespace(create=self._network)

    def info(self) -> dict[str, int]:
        return {"MemTotal": 1000}

    def _container(self, image, command, **options) -> FakeResource:
        if options["name"].endswith(self._refused or "-"):
            raise APIError("409 Client Error", explanation="no such image")
        self.created.append(FakeResource({"image": image, "command": command, **options}, **self._options))
        return self.created[-1]

    def _network(self, name, **options) -> FakeResource:
        self.network = FakeResource({"name": name, **options})
        return self.network


def fake_engine(client: FakeClient, labels: dict[str, str] | None = None) -> SimpleNamespace:
    return SimpleNamespace(client=lambda: client, labels=lambda: labels or {})


@pytest.fixture
def job() -> TrainingJob:
    channel = Channel(name="training", source=Path("/x/a.csv"), is_file=True, mode=InputMode.MOUNT)
    return TrainingJob(name="j", image="i", region="us-west-2", program="", code={}, parameters={}, channels=(channel,), instance_count=2, environment={"A": "b"}, gpus=-1, max_run=60)  # fmt: skip


def test_each_host_is_a_container_with_a_network_alias(job) -> None:
    client = FakeClient()
    with open_hosts(fake_engine(client, {"label": "x"}), job) as hosts:
        assert [host.name for host in hosts] == ["algo-1", "algo-2"]
    _, options = (container.options for container in client.created)
    assert (options["image"], options["command"], options["name"]) == ("i", ["train"], "j-algo-2")
    assert options["networking_config"] == {"j": {"aliases": ["algo-2"]}}
    assert options["hostname"] == "aws"
    assert options["environment"]["A"] == "b"
    assert options["labels"] == client.network.options["labels"] == {"label": "x"}
    (mount,) = options["mounts"]
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("/x/a.csv", "/opt/ml/input/data/training/a.csv", True)  # fmt: skip


def test_a_host_gets_the_gpus_of_the_job(job) -> None:
    client = FakeClient()
    with open_hosts(fake_engine(client), job):
        (request,) = client.created[0].options["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_containers_and_network_are_removed_after_an_error(job) -> None:
    client = FakeClient()
    with pytest.raises(ZeroDivisionError), open_hosts(fake_engine(client), job):
        raise ZeroDivisionError
    assert [resource.removed for resource in (*client.created, client.network)] == [True, True, True]


def test_if_one_container_cannot_be_created_everything_is_removed(job) -> None:
    client = FakeClient(refused="algo-2")
    with (
        pytest.raises(JobError, match="cannot create the container of algo-2: no such image"),
        open_hosts(fake_engine(client), job),
    ):
        pass
    assert [resource.removed for resource in (*client.created, client.network)] == [True, True]


def test_a_program_that_cannot_start_returns_the_engines_message(job) -> None:
    with open_hosts(fake_engine(FakeClient(start_error="no GPU here")), job) as (first, _):
        assert first.start() == "no GPU here"


def test_log_lines_are_complete_however_the_engine_cuts_them(job) -> None:
    lines: list[str] = []
    client = FakeClient(chunks=(b"one\ntw", b"o \xc3", b"\xbc\n10%\r20%\r\n\xff\nlast"))
    with open_hosts(fake_engine(client), job) as (first, _):
        assert first.follow(lines.append) == 3
    assert lines == ["one", "two ü", "20%", "\ufffd", "last"]


def test_a_channel_in_pipe_mode_is_not_mounted(job) -> None:
    client = FakeClient()
    pipe_job = replace(job, channels=(Channel(name="t", source=Path("/x"), mode=InputMode.PIPE),))
    with open_hosts(fake_engine(client), pipe_job):
        assert client.created[0].options["mounts"] == []
