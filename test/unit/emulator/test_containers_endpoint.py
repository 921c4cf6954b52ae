import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.emulator.containers import open_instance
from rlimages.emulator.endpoint_config import Endpoint
from rlimages.errors import JobError


class FakeThing:
    """A container or a volume: it remembers its options, and what was done to it."""

    def __init__(self, name: str, options, trouble: str = "") -> None:
        self.name = name
        self.options = options
        self.trouble = trouble
        self.got: list[str] = []
        self.removed = False
        self.ports = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}], "99/tcp": None}

    def put_archive(self, path: str, archive) -> None:
        assert path == "/"
        with tarfile.open(fileobj=archive) as packed:
            self.got = packed.getnames()

    def start(self) -> None:
        if self.trouble:
            raise APIError("500 Server Error", explanation=self.trouble)

    def reload(self) -> None:
        pass

    def remove(self, **_words) -> None:
        self.removed = True


class FakeClient:
    def __init__(self, refused: str = "-", trouble: str = "") -> None:
        self.made: list[FakeThing] = []
        self._refused = refused
        self._trouble = trouble
        self.containers = SimpleNamespace(create=self._container)
        self.volumes = SimpleNamespace(create=lambda name, **options: self._make(name, options))

    def info(self) -> dict[str, int]:
        return {"MemTotal": 1000}

    def _container(self, image, command, **options) -> FakeThing:
        if options["name"] == self._refused:
            raise APIError("409 Client Error", explanation="no such thing")
        return self._make(options.pop("name"), {"image": image, "command": command, **options})

    def _make(self, name: str, options) -> FakeThing:
        self.made.append(FakeThing(name, options, self._trouble))
        return self.made[-1]


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    (tmp_path / "m").write_text("m")
    return Endpoint(
        name="e", image="i", region="r", model=tmp_path, port=0, bind_to=9000, gpus=2, environment={"A": "b"}
    )


def test_the_model_lies_read_only_before_the_server(endpoint) -> None:
    client = FakeClient()
    with open_instance(client, endpoint, {"label": "x"}):
        volume, unpack, server = client.made
        assert (volume.name, unpack.name, server.name) == ("e-model", "e-unpack", "e")
        assert unpack.got == ["opt/ml/model", "opt/ml/model/m"]
        assert unpack.removed
        (mount,) = server.options["mounts"]
        assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("e-model", "/opt/ml/model", True)
        assert {thing.options["labels"]["label"] for thing in client.made} == {"x"}
    assert all(thing.removed for thing in client.made)


def test_the_server_listens_on_loopback_only(endpoint) -> None:
    client = FakeClient()
    with open_instance(client, endpoint, {}) as instance:
        options = client.made[-1].options
        assert options["ports"] == {"9000/tcp": ("127.0.0.1", None)}
        assert instance.address() == "http://127.0.0.1:32768"


def test_the_server_is_started_as_sagemaker_starts_it(endpoint) -> None:
    client = FakeClient()
    with open_instance(client, endpoint, {}):
        options = client.made[-1].options
        assert (options["image"], options["command"]) == ("i", ["serve"])
        assert {"A": "b", "AWS_REGION": "r"}.items() <= options["environment"].items()
        assert options["device_requests"][0]["Count"] == 2


@pytest.mark.parametrize("refused", ["e-unpack", "e"])
def test_what_the_engine_refuses_leaves_nothing(endpoint, refused) -> None:
    client = FakeClient(refused=refused)
    with pytest.raises(JobError, match="the engine refuses i: no such thing"), open_instance(client, endpoint, {}):
        pass
    assert all(thing.removed for thing in client.made)


def test_a_port_that_is_taken_has_a_remedy(endpoint) -> None:
    said = "driver failed programming external connectivity: Bind for 127.0.0.1:0 failed: port is already allocated"
    with open_instance(FakeClient(trouble=said), endpoint, {}) as instance:
        assert instance.start() == "port 0 of this machine is taken; --port 0 finds a free one"
