"""Images and labels are read over the engine's Unix socket only; any failure gives None."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rlimages.engine.protocol import LocalImage, LocalImages
from rlimages.engine.socket_api import has_label, list_images
from rlimages.plan.step import RunOptions, Stage
from rlimages.project.project import load_project
from rlimages.run.prepare import decide_plan, outline_plan


class Engine(ThreadingMixIn, UnixStreamServer):
    """An HTTP server that answers with `answers` by path, else with 404."""

    daemon_threads = True
    answers: dict[str, Any]
    requests: list[tuple[str, dict[str, list[str]]]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.requests.append((url.path, parse_qs(url.query)))
        known = url.path == "/_ping" or url.path in self.server.answers
        body = json.dumps(self.server.answers.get(url.path, "OK")).encode()
        self.send_response(200 if known else 404)
        self.send_header("Api-Version", "1.47")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(str(tmp_path / "engine.sock"), Handler) as server:
        server.answers, server.requests = {}, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def environ(engine: Engine) -> dict[str, str]:
    return {"DOCKER_HOST": f"unix://{engine.server_address}"}


def test_images_are_requested_in_the_api_version_of_the_engine(engine: Engine) -> None:
    engine.answers["/v1.47/images/json"] = [{"Id": "sha256:1"}]
    assert list_images(environ(engine), dangling="true") == [{"Id": "sha256:1"}]
    assert engine.requests[-1] == ("/v1.47/images/json", {"filters": ['{"dangling": ["true"]}']})


@pytest.mark.parametrize("kind", ["containers", "networks", "volumes"])
def test_one_object_with_the_label_is_enough(engine: Engine, kind: str) -> None:
    engine.answers = {"/v1.47/containers/json": [], "/v1.47/networks": [], "/v1.47/volumes": {"Volumes": None}}
    assert has_label("x", environ(engine)) is False
    path = next(path for path in engine.answers if kind in path)
    engine.answers[path] = {"Volumes": [{"Name": "a"}]} if kind == "volumes" else [{"Id": "a"}]
    assert has_label("x", environ(engine)) is True
    assert ("/v1.47/containers/json", {"all": ["1"], "filters": ['{"label": ["x"]}']}) in engine.requests


def test_a_failed_request_gives_none(engine: Engine) -> None:
    assert list_images(environ(engine)) is None
    assert has_label("x", environ(engine)) is None


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ssh://nowhere.invalid", "unix:///nowhere.invalid"])
def test_an_engine_without_a_reachable_unix_socket_gives_none(address: str) -> None:
    assert list_images({"DOCKER_HOST": address}) is None


def test_a_build_with_nothing_to_do_loads_neither_docker_client_nor_templates(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has an image whose label is the build digest of the plan."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/tiny.Dockerfile.j2").write_text("FROM {{ cell.base.image }}\n")
    (tmp_path / "build_matrix.yaml").write_text(
        "version: 1\nbases:\n  d:\n    {line: debian, image: {cpu: 'debian:x'}, os: debian12, python: '3.11'}\n"
        "toolkits:\n  tiny:\n    '1.0':\n      as_of: 2024-01-01\n"
        "      images: [{base: d, repository: tiny, tag: tiny-1.0}]\n"
    )
    program = (
        "import sys\n"
        "from rlimages.cli.main import main\n"
        "code = main(sys.argv[1:], standalone_mode=False)\n"
        "print(code, *sorted(sys.modules))\n"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "", **environ(engine)}

    def run(*arguments: str) -> str:
        argv = [sys.executable, "-c", program, *arguments]
        completed = subprocess.run(argv, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
        return completed.stdout

    base = {"Id": "sha256:0", "RepoTags": ["debian:x"], "RepoDigests": [], "Labels": None, "Size": 1}
    engine.answers = {
        "/v1.47/containers/json": [],
        "/v1.47/networks": [],
        "/v1.47/volumes": {"Volumes": []},
        "/v1.47/images/json": [base],
    }
    run("render")
    project = load_project(tmp_path / "build_matrix.yaml", tmp_path)
    local_images = LocalImages((LocalImage(id="sha256:0", names=("debian:x",), digests=(), labels={}, size=1),))
    options = RunOptions(stages=(Stage.BUILD,), command="build")
    plan = decide_plan(outline_plan(project, project.cells, options), project, local_images, options)
    tiny = {"Id": "sha256:2", "RepoTags": [plan.steps[0].request.tag], "RepoDigests": [], "Size": 2}
    engine.answers["/v1.47/images/json"] = [base, {**tiny, "Labels": {"rlimages.build": plan.steps[0].digest}}]
    output = run("build")
    assert "1 passed" in output
    loaded = set(output.splitlines()[-1].split())
    assert not loaded.intersection(
        {"docker", "requests", "jinja2", "pydantic", "yaml", "rich", "rlimages.run.scheduler"}
    )
