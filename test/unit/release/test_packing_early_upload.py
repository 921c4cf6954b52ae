"""Layers of images that passed travel while others are built; nobody can see anything of them yet."""

import io
import json
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rlimages.engine.protocol import BuiltImage
from rlimages.errors import AcceptanceError, Interrupted, ToolError
from rlimages.oci.archive import PackedCache, pack_image
from rlimages.oci.manifest import Manifest, sha256_digest
from rlimages.plan.results import CellReport
from rlimages.project.state import StateFolder
from rlimages.registry.auth import DockerCredentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.http import RequestCounter
from rlimages.release.model import RegistryConnection, TargetRegistry
from rlimages.release.packing import early_uploader, from_local_store
from rlimages.system.process import Stop

LAYER = b"a layer " * 100


def saved() -> tuple[str, bytes]:
    """An image of one layer: its id, and what the engine saves."""
    diff = sha256_digest(LAYER)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
    name = sha256_digest(config)
    manifest = json.dumps([{"Config": f"blobs/sha256/{name[7:]}", "Layers": [f"blobs/sha256/{diff[7:]}"]}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for path, content in (
            (f"blobs/sha256/{name[7:]}", config),
            (f"blobs/sha256/{diff[7:]}", LAYER),
            ("manifest.json", manifest),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return name, buffer.getvalue()


class Server(ThreadingHTTPServer):
    """A registry that takes blobs, as the distribution specification has it, in one piece each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.parts: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.closed = False
        """As ECR is to repositories that nobody made."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_any(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        self.server.asked.append(f"{self.command} {path}")
        status, headers = 404, {}
        if path == "/v2/":
            status = 200
        elif self.command == "HEAD":
            status = 200 if path.rpartition("/")[2] in self.server.blobs else 404
        elif not self.server.closed:
            place = path if self.command != "POST" else f"{path}{len(self.server.asked)}"
            status, headers = (201 if self.command == "PUT" else 202), {"location": place}
            self.server.parts[place] = self.server.parts.get(place, b"") + content
            if self.command == "PUT":
                self.server.blobs[query.removeprefix("digest=").replace("%3A", ":")] = self.server.parts[place]
        self.send_response(status)
        for name, value in {**headers, "content-length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_any

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def place(server, tmp_path) -> RegistryConnection:
    host, meter = f"127.0.0.1:{server.server_port}", RequestCounter()
    return RegistryConnection(
        place=TargetRegistry(name=host, host=host, prefix="team"),
        registry=RegistryClient(host, meter=meter, patience=0.1),
        meter=meter,
        credentials=DockerCredentials(tmp_path),
    )


@pytest.fixture
def passed(cell):
    name, _ = saved()
    return CellReport(cell=cell, image=BuiltImage(id=name, size=1))


def fetch(tmp_path, pieces=None):
    _, content = saved()
    return from_local_store(lambda _image: pieces or (lambda: iter([content])), StateFolder(tmp_path))


def anything(_cell: CellReport, _manifest: Manifest) -> None:
    """No profile has anything against it."""


def test_the_layers_of_what_passed_are_there_before_the_release(passed, server, place, tmp_path) -> None:
    early_uploader(fetch(tmp_path), [place], judge=anything, stop=Stop())(passed)
    name, _ = saved()
    assert name in server.blobs
    assert len(server.blobs) == 2
    assert not [line for line in server.asked if "/manifests/" in line]
    assert {line.split("/")[3] for line in server.asked if "blobs" in line} == {passed.cell.repository}


def test_a_release_finds_packed_what_passed_before_it(passed, place, tmp_path) -> None:
    early_uploader(fetch(tmp_path), [place], judge=anything, stop=Stop())(passed)

    def never():
        raise AssertionError("it was saved a second time")

    packed = pack_image(passed.image.id, never, tmp_path / "blobs", PackedCache(tmp_path / "packed"))
    assert packed.manifest.image == passed.image.id


def test_what_is_there_already_is_not_packed_or_sent_again(passed, server, place, tmp_path) -> None:
    asked = []
    _, content = saved()
    forward = early_uploader(
        fetch(tmp_path, lambda: asked.append(1) or iter([content])), [place], judge=anything, stop=Stop()
    )
    forward(passed)
    for blob in (tmp_path / "blobs").iterdir():
        blob.unlink()
    server.asked.clear()
    forward(passed)
    assert len(asked) == 1
    assert {line.partition(" ")[0] for line in server.asked} <= {"GET", "HEAD"}


def test_nothing_travels_of_an_image_that_a_profile_refuses(passed, server, place, tmp_path) -> None:
    def refuse(_cell, _manifest):
        raise AcceptanceError("too large")

    early_uploader(fetch(tmp_path), [place], judge=refuse, stop=Stop())(passed)
    assert not server.blobs


def test_a_place_without_the_repository_waits_for_the_release(passed, server, place, tmp_path) -> None:
    server.closed = True
    early_uploader(fetch(tmp_path), [place], judge=anything, stop=Stop())(passed)
    assert not server.blobs
    assert (tmp_path / "packed").is_dir()


def test_what_goes_wrong_is_left_for_the_release_to_say(passed, place, tmp_path) -> None:
    def gone():
        raise ToolError("the Docker engine does not answer any more")

    early_uploader(fetch(tmp_path, gone), [place], judge=anything, stop=Stop())(passed)


def test_a_stopped_run_leaves_nothing_half_packed(passed, server, place, tmp_path) -> None:
    _, content = saved()
    stop = Stop()

    def pieces():
        yield content[:600]
        stop.set()
        raise Interrupted("interrupted")

    early_uploader(fetch(tmp_path, pieces), [place], judge=anything, stop=stop)(passed)
    assert not list((tmp_path / "blobs").iterdir())
    assert not server.blobs
