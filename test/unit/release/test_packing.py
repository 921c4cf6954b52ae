"""All images are packed before a release, also if some of the registries do not answer."""

import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rlimages.errors import Interrupted
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, Manifest, PackedContent, compose_manifest
from rlimages.project.state import StateFolder
from rlimages.registry.auth import DockerCredentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.request_counter import RequestCounter
from rlimages.release.model import RegistryConnection, ReleaseItem, TargetRegistry
from rlimages.release.packing import pack_all
from rlimages.release.sources import LocalStoreSource
from rlimages.system.process import Stop

LAYERS = [Blob(media_type=DOCKER_LAYER, digest=f"sha256:{name}", size=10) for name in "ab"]
PACKED = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest="sha256:c", size=3), LAYERS)
ITEMS = [ReleaseItem(cell=name, repository=name, image="sha256:c", tags=("1",)) for name in ("one", "two")]


class Content:
    """An image that is packed."""

    manifest: Manifest = PACKED

    def chunks(self, _blob: Blob) -> Iterator[bytes]:
        raise AssertionError("nothing is uploaded here")


class Source(LocalStoreSource):
    """Records for each image which of its layers are wanted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda _image: iter(()), StateFolder(folder))
        self.wanted: list[list[bool]] = []

    def pack(self, _item: ReleaseItem, wanted: Callable[[Blob], bool]) -> PackedContent:
        self.wanted.append([wanted(layer) for layer in LAYERS])
        return Content()


class Server(ThreadingHTTPServer):
    """A registry that has one of the two layers. If it is broken, it refuses every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.broken = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_any(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        status = 200 if self.path == "/v2/" or self.path.endswith("sha256:a") else 404
        self.send_response(400 if self.server.broken and self.path != "/v2/" else status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_any

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def connect_to(port: int, tmp_path) -> RegistryConnection:
    host, counter = f"127.0.0.1:{port}", RequestCounter()
    return RegistryConnection(
        registry=TargetRegistry(name=host, host=host, prefix="team"),
        client=RegistryClient(host, counter=counter, patience=0.1),
        counter=counter,
        credentials=DockerCredentials(tmp_path),
    )


@pytest.fixture
def down(tmp_path) -> RegistryConnection:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return connect_to(free.getsockname()[1], tmp_path)


@pytest.fixture
def source(tmp_path) -> Source:
    return Source(tmp_path)


def test_all_images_are_packed_before_a_registry_gets_a_byte(server, source, tmp_path) -> None:
    packed = pack_all(ITEMS, [connect_to(server.server_port, tmp_path)], source, stop=Stop())
    assert packed == {"one": PACKED, "two": PACKED}
    assert source.wanted[0] == [False, True]
    assert {line.partition(" ")[0] for line in server.asked} == {"GET", "HEAD"}
    assert "HEAD /v2/team/one/blobs/sha256:a" in server.asked


def test_a_registry_that_is_down_does_not_prevent_packing(server, down, source, tmp_path) -> None:
    packed = pack_all(ITEMS, [down, connect_to(server.server_port, tmp_path)], source, stop=Stop())
    assert set(packed) == {"one", "two"}
    assert source.wanted[0] == [False, True]


def test_the_manifests_are_known_also_if_no_registry_answers(down, source) -> None:
    assert set(pack_all(ITEMS, [down], source, stop=Stop())) == {"one", "two"}


def test_a_registry_that_refuses_to_answer_counts_as_lacking_all_layers(server, source, tmp_path) -> None:
    server.broken = True
    pack_all(ITEMS, [connect_to(server.server_port, tmp_path)], source, stop=Stop())
    assert source.wanted[0] == [True, True]


def test_packing_ends_when_the_run_is_stopped(down, source) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted):
        pack_all(ITEMS, [down], source, stop=stop)
