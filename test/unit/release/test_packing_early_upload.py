"""Layers of images that passed are uploaded while other images are built, without any tag or manifest."""

import io
import json
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rlimages.engine.protocol import BuiltImage
from rlimages.errors import AcceptanceError, Interrupted, ToolError
from rlimages.oci.manifest import Manifest, sha256_digest
from rlimages.oci.packing import PackedCache, pack_image
from rlimages.plan.results import CellReport
from rlimages.project.state import StateFolder
from rlimages.registry.auth import DockerCredentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.request_counter import RequestCounter
from rlimages.release.model import RegistryConnection, TargetRegistry
from rlimages.release.packing import EarlyUploader
from rlimages.release.sources import LocalStoreSource
from rlimages.system.process import Stop

LAYER = b"a layer " * 100


def saved() -> tuple[str, bytes]:
    """An image of one layer: its id, and the archive that the engine saves."""
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
    """A registry that takes blobs as in the distribution specification, each in one chunk."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.parts: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.closed = False
        """Whether uploads are refused, as in ECR for a repository that does not exist."""


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
            location = path if self.command != "POST" else f"{path}{len(self.server.asked)}"
            status, headers = (201 if self.command == "PUT" else 202), {"location": location}
            self.server.parts[location] = self.server.parts.get(location, b"") + content
            if self.command == "PUT":
                self.server.blobs[query.removeprefix("digest=").replace("%3A", ":")] = self.server.parts[location]
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
def connection(server, tmp_path) -> RegistryConnection:
    host, counter = f"127.0.0.1:{server.server_port}", RequestCounter()
    return RegistryConnection(
        registry=TargetRegistry(name=host, host=host, prefix="team"),
        client=RegistryClient(host, counter=counter, patience=0.1),
        counter=counter,
        credentials=DockerCredentials(tmp_path),
    )


@pytest.fixture
def passed(cell):
    name, _ = saved()
    return CellReport(cell=cell, image=BuiltImage(id=name, size=1))


@pytest.fixture
def uploader(connection, tmp_path):
    def uploader(save=None, require_accepted=accept_all, stop: Stop | None = None) -> EarlyUploader:
        _, content = saved()
        return EarlyUploader(
            source=LocalStoreSource(save or (lambda _image: iter([content])), StateFolder(tmp_path)),
            connections=[connection],
            require_accepted=require_accepted,
            stop=stop or Stop(),
        )

    return uploader


def accept_all(_cell: CellReport, _manifest: Manifest) -> None:
    """The target has no acceptance profile."""


def test_the_layers_of_an_image_that_passed_are_uploaded_before_the_release(passed, server, uploader) -> None:
    uploader().upload(passed)
    name, _ = saved()
    assert name in server.blobs
    assert len(server.blobs) == 2
    assert not [line for line in server.asked if "/manifests/" in line]
    assert {line.split("/")[3] for line in server.asked if "blobs" in line} == {passed.cell.repository}


def test_a_release_finds_what_was_packed_before_it(passed, uploader, tmp_path) -> None:
    uploader().upload(passed)

    def never():
        raise AssertionError("it was saved a second time")

    packed = pack_image(passed.image.id, never, tmp_path / "blobs", PackedCache(tmp_path / "packed"))
    assert packed.manifest.image == passed.image.id


def test_a_layer_that_the_registry_has_is_not_packed_or_uploaded_again(passed, server, uploader, tmp_path) -> None:
    saves = []
    _, content = saved()
    early_uploader = uploader(lambda image: saves.append(image) or iter([content]))
    early_uploader.upload(passed)
    for blob in (tmp_path / "blobs").iterdir():
        blob.unlink()
    server.asked.clear()
    early_uploader.upload(passed)
    assert len(saves) == 1
    assert {line.partition(" ")[0] for line in server.asked} <= {"GET", "HEAD"}


def test_nothing_is_uploaded_of_an_image_that_a_profile_refuses(passed, server, uploader) -> None:
    def refuse(_cell, _manifest):
        raise AcceptanceError("too large")

    uploader(require_accepted=refuse).upload(passed)
    assert not server.blobs


def test_an_image_is_packed_also_if_its_repository_does_not_exist_yet(passed, server, uploader, tmp_path) -> None:
    server.closed = True
    uploader().upload(passed)
    assert not server.blobs
    assert (tmp_path / "packed").is_dir()


def test_a_failure_is_left_for_the_release_to_report(passed, uploader) -> None:
    def fail(_image: str):
        raise ToolError("the Docker engine does not answer any more")

    uploader(fail).upload(passed)


def test_a_run_that_is_stopped_leaves_no_half_packed_layer(passed, server, uploader, tmp_path) -> None:
    _, content = saved()
    stop = Stop()

    def save(_image: str):
        yield content[:600]
        stop.set()
        raise Interrupted("interrupted")

    uploader(save, stop=stop).upload(passed)
    assert not list((tmp_path / "blobs").iterdir())
    assert not server.blobs
