"""Credentials come from `docker login`, and a registry that asks for a bearer token gets one."""

import base64
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rlimages.errors import RegistryError
from rlimages.registry.auth import Credentials, DockerCredentials, RegistryLogin

HOST = "registry.example.com"
SCOPE = "repository:team/x:pull,push"
BASIC = f"Basic {base64.b64encode(b'user:word').decode()}"


class KnownCredentials(Credentials):
    """One user for every host."""

    def find(self, _host: str) -> tuple[str, str] | None:
        return "user", "word"


class TokenServer(ThreadingHTTPServer):
    """A token server that gives prepared answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TokenHandler)
        self.answer: tuple[int, dict] = (200, {"token": "secret"})
        self.requests: list[tuple[str, str]] = []

    @property
    def challenge(self) -> str:
        return f'Bearer realm="http://127.0.0.1:{self.server_address[1]}/token",service="registry"'


class TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("authorization", "")))
        status, fields = self.server.answer
        content = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def write_config(folder: Path, config: dict) -> DockerCredentials:
    (folder / "config.json").write_text(json.dumps(config))
    return DockerCredentials(folder)


def write_helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_the_password_of_docker_login_is_found(tmp_path) -> None:
    auth = base64.b64encode(b"user:pass:word").decode()
    credentials = write_config(tmp_path, {"auths": {HOST: {"auth": auth}}})
    assert credentials.find(HOST) == ("user", "pass:word")
    assert credentials.find("other.example.com") is None


def test_without_a_docker_configuration_there_are_no_credentials(tmp_path) -> None:
    assert DockerCredentials(tmp_path).find(HOST) is None


def test_a_broken_docker_configuration_is_an_error_that_names_it(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RegistryError, match=r"config\.json: cannot be read"):
        DockerCredentials(tmp_path).find(HOST)


@pytest.mark.parametrize("config", [{"credHelpers": {HOST: "test"}}, {"credsStore": "test"}])
def test_a_credential_helper_gets_the_host_and_gives_user_and_password(tmp_path, programs, config) -> None:
    write_helper(programs, "test", """read host; echo "{\\"Username\\": \\"user\\", \\"Secret\\": \\"of $host\\"}\"""")
    assert write_config(tmp_path, config).find(HOST) == ("user", f"of {HOST}")


def test_a_credential_helper_that_fails_has_no_credentials(tmp_path, programs) -> None:
    write_helper(programs, "test", "exit 1")
    assert write_config(tmp_path, {"credsStore": "test"}).find(HOST) is None


def test_a_credential_helper_that_gives_no_password_is_an_error(tmp_path, programs) -> None:
    write_helper(programs, "test", "echo {}")
    with pytest.raises(RegistryError, match="docker-credential-test gave no user and password for"):
        write_config(tmp_path, {"credsStore": "test"}).find(HOST)


def test_a_missing_credential_helper_is_an_error(tmp_path) -> None:
    with pytest.raises(RegistryError, match="docker-credential-missing, which Docker's configuration names"):
        write_config(tmp_path, {"credsStore": "missing"}).find(HOST)


def test_basic_authentication_is_used_until_the_registry_asks_for_a_token(server) -> None:
    login = RegistryLogin(KnownCredentials())
    assert login.headers(HOST, SCOPE) == {"authorization": BASIC}
    assert login.renew(HOST, SCOPE, server.challenge)
    assert login.headers(HOST, SCOPE) == {"authorization": "Bearer secret"}
    assert login.headers(HOST, "repository:team/y:pull,push") == {"authorization": BASIC}
    assert server.requests == [("/token?service=registry&scope=repository%3Ateam%2Fx%3Apull%2Cpush", BASIC)]


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [({"token": "secret"}, 60), ({"token": "secret", "expires_in": 300}, 300), ({"access_token": "secret"}, 60)],
)
def test_a_token_is_used_until_20_seconds_before_its_end(server, fields, seconds) -> None:
    now = [1000.0]
    server.answer = (200, fields)
    login = RegistryLogin(KnownCredentials(), clock=lambda: now[0])
    login.renew(HOST, SCOPE, server.challenge)
    now[0] += seconds - 21
    assert login.headers(HOST, SCOPE) == {"authorization": "Bearer secret"}
    now[0] += 1
    assert login.headers(HOST, SCOPE) == {"authorization": BASIC}


def test_a_token_server_that_refuses_the_login_is_an_error_with_a_remedy(server) -> None:
    server.answer = (401, {})
    with pytest.raises(RegistryError, match=rf"gives no token for {SCOPE} \(401\); try `docker login {HOST}`"):
        RegistryLogin(KnownCredentials()).renew(HOST, SCOPE, server.challenge)


@pytest.mark.parametrize("answer", [(500, {}), (200, {}), (404, {})])
def test_any_other_answer_of_a_token_server_is_an_error(server, answer) -> None:
    server.answer = answer
    with pytest.raises(RegistryError, match=f"cannot get a token for {HOST}"):
        RegistryLogin(KnownCredentials()).renew(HOST, SCOPE, server.challenge)


def test_a_refused_password_without_a_token_server_is_not_tried_again() -> None:
    assert not RegistryLogin(KnownCredentials()).renew(HOST, SCOPE, "")
