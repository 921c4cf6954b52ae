import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.emulator.containers import open_endpoint, running_endpoints
from rlimages.emulator.endpoint import Endpoint
from rlimages.errors import JobError


class FakeResource:
    """A container or a volume: it records its options, what was unpacked, and whether it was removed."""

    def __init__(self, name: str, options, start_error: str = "") -> None:
        self.name = name
        self.options = options
        self.start_error = start_error
        self.unpacked: list[str] = []
        self.removed = False
        self.ports = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}], "99/tcp": None}

    def put_archive(self, path: str, archive) -> None:
        assert path == "/"
        with tarfile.open(fileobj=archive) as unpacked:
            self.unpacked = unpacked.getnames()

    def start(self) -> None:
        if self.start_error:
            raise APIError("500 Server Error", explanation=self.start_error)

    def reload(self) -> None:
        pass

    def remove(self, **_options) -> None:
        self.removed = True


class FakeClient:
    """A Docker client that refuses to create the container with the name `refused`."""

    def __init__(self, refused: str = "-", start_error: str = "") -> None:
        self.created: list[FakeResource] = []
        self._refused = refused
        self._start_error = start_error
        self.containers = SimpleNamespace(create=self._create_container)
        self.volumes = SimpleNamespace(create=lambda name, **options: self._create(name, options))

    def info(self) -> dict[str, int]:
        return {"MemTotal": 1000}

    def _create_container(self, image, command, **options) -> FakeResource:
        if options["name"] == self._refused:
            raise APIError("409 Client Error", explanation="no such image")
        return self._create(options.pop("name"), {"image": image, "command": command, **options})

    def _create(self, name: str, options) -> FakeResource:
        self.created.append(FakeResource(name, options, self._start_error))
        return self.created[-1]


def fake_engine(client: FakeClient, labels: dict[str, str] | None = None) -> SimpleNamespace:
    return SimpleNamespace(client=lambda: client, labels=lambda: labels or {})


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    (tmp_path / "m").write_text("m")
    return Endpoint(
        name="e", image="i", region="r", model=tmp_path, port=0, bind_to=9000, gpus=2, environment={"A": "b"}
    )


def test_the_model_is_unpacked_into_a_volume_and_mounted_read_only(endpoint) -> None:
    client = FakeClient()
    with open_endpoint(fake_engine(client, {"label": "x"}), endpoint):
        volume, unpacker, server = client.created
        assert (volume.name, unpacker.name, server.name) == ("e-model", "e-unpack", "e")
        assert unpacker.unpacked == ["opt/ml/model", "opt/ml/model/m"]
        assert unpacker.removed
        (mount,) = server.options["mounts"]
        assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("e-model", "/opt/ml/model", True)
        assert {resource.options["labels"]["label"] for resource in client.created} == {"x"}
    assert all(resource.removed for resource in client.created)


def test_the_port_is_published_on_loopback_only(endpoint) -> None:
    client = FakeClient()
    with open_endpoint(fake_engine(client), endpoint) as instance:
        options = client.created[-1].options
        assert options["ports"] == {"9000/tcp": ("127.0.0.1", None)}
        assert instance.address() == "http://127.0.0.1:32768"


def test_the_container_has_sagemakers_command_and_environment(endpoint) -> None:
    client = FakeClient()
    with open_endpoint(fake_engine(client), endpoint):
        options = client.created[-1].options
        assert (options["image"], options["command"]) == ("i", ["serve"])
        assert {"A": "b", "AWS_REGION": "r"}.items() <= options["environment"].items()
        assert options["device_requests"][0]["Count"] == 2


@pytest.mark.parametrize("refused", ["e-unpack", "e"])
def test_if_a_container_cannot_be_created_everything_is_removed(endpoint, refused) -> None:
    client = FakeClient(refused=refused)
    with (
        pytest.raises(JobError, match="cannot create the container of i: no such image"),
        open_endpoint(fake_engine(client), endpoint),
    ):
        pass
    assert all(resource.removed for resource in client.created)


def test_the_message_about_a_port_in_use_has_a_remedy(endpoint) -> None:
    message = "driver failed programming external connectivity: Bind for 127.0.0.1:0 failed: port is already allocated"
    with open_endpoint(fake_engine(FakeClient(start_error=message)), endpoint) as instance:
        assert instance.start() == "port 0 of this machine is in use; --port 0 takes a free one"


@pytest.mark.parametrize(("is_batch", "label"), [(False, {"rlimages.endpoint": "e"}), (True, {})])
def test_only_an_endpoint_that_takes_requests_has_the_label_of_endpoints(endpoint, is_batch, label) -> None:
    client = FakeClient()
    with open_endpoint(fake_engine(client), replace(endpoint, is_batch=is_batch)):
        assert client.created[-1].options["labels"] == label


def test_running_endpoints_are_found_by_their_label_with_their_address() -> None:
    def container(name: str, ports) -> SimpleNamespace:
        return SimpleNamespace(labels={"rlimages.endpoint": name}, ports=ports)

    containers = [
        container("b", {"8080/tcp": [{"HostPort": "32768"}]}),
        container("a", {}),
        container("", {"1/tcp": None}),
    ]
    listed = SimpleNamespace(containers=SimpleNamespace(list=lambda filters, ignore_removed: containers))
    assert running_endpoints(fake_engine(listed)) == {"b": "http://127.0.0.1:32768"}
