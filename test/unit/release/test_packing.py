"""Images that are packed for registries of which some are down."""

import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rlimages.errors import Interrupted
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, Manifest, compose_manifest
from rlimages.registry.auth import DockerCredentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.http import RequestCounter
from rlimages.release.model import RegistryConnection, ReleaseItem, TargetRegistry
from rlimages.release.packing import pack_all
from rlimages.system.process import Stop

LAYERS = [Blob(media_type=DOCKER_LAYER, digest=f"sha256:{name}", size=10) for name in "ab"]
PACKED = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest="sha256:c", size=3), LAYERS)
ITEMS = [ReleaseItem(cell=name, repository=name, image="sha256:c", tags=("1",)) for name in ("one", "two")]


class Content:
    manifest: Manifest = PACKED


class Server(ThreadingHTTPServer):
    """A registry that has one of the two layers, or is out of order."""

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


def opened(port: int, tmp_path) -> RegistryConnection:
    host, meter = f"127.0.0.1:{port}", RequestCounter()
    return RegistryConnection(
        place=TargetRegistry(name=host, host=host, prefix="team"),
        registry=RegistryClient(host, meter=meter, patience=0.1),
        meter=meter,
        credentials=DockerCredentials(tmp_path),
    )


@pytest.fixture
def down(tmp_path) -> RegistryConnection:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return opened(free.getsockname()[1], tmp_path)


def pack(places: list[RegistryConnection], stop: Stop | None = None) -> tuple[dict[str, Manifest], list[bool]]:
    """What all images became, and which layers had to be there for the first."""
    wanted: list[list[bool]] = []

    def fetch(_item: ReleaseItem, lacking: Callable[[Blob], bool]) -> Content:
        wanted.append([lacking(layer) for layer in LAYERS])
        return Content()

    return dict(pack_all(ITEMS, places, fetch, stop=stop or Stop())), wanted[0] if wanted else []


def test_all_images_are_packed_before_any_place_gets_a_byte(server, tmp_path) -> None:
    packed, wanted = pack([opened(server.server_port, tmp_path)])
    assert packed == {"one": PACKED, "two": PACKED}
    assert wanted == [False, True]
    assert {line.partition(" ")[0] for line in server.asked} == {"GET", "HEAD"}
    assert "HEAD /v2/team/one/blobs/sha256:a" in server.asked


def test_a_place_that_is_down_keeps_nothing_from_being_packed(server, down, tmp_path) -> None:
    packed, wanted = pack([down, opened(server.server_port, tmp_path)])
    assert set(packed) == {"one", "two"}
    assert wanted == [False, True]


def test_where_no_place_answers_what_will_be_sent_is_known_all_the_same(down) -> None:
    assert set(pack([down])[0]) == {"one", "two"}


def test_a_place_that_refuses_to_say_what_it_has_gets_all(server, tmp_path) -> None:
    server.broken = True
    assert pack([opened(server.server_port, tmp_path)])[1] == [True, True]


def test_packing_ends_when_the_run_is_stopped(down) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted):
        pack([down], stop)
