"""The client against a registry on loopback that gives prepared answers."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rlimages.errors import RegistryError
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, MANIFEST_TYPES, parse_reference
from rlimages.registry.client import resolve_reference
from rlimages.registry.http import base_url, is_loopback, is_reachable

MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": {"mediaType": DOCKER_CONFIG, "digest": "sha256:config", "size": 7},
        "layers": [
            {"mediaType": DOCKER_LAYER, "digest": "sha256:a", "size": 30},
            {"mediaType": DOCKER_LAYER, "digest": "sha256:b", "size": 12},
        ],
    }
).encode()
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


class Registry(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        """The last one is given again and again."""
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        queue = self.server.answers
        status, headers, body = queue.pop(0) if len(queue) > 1 else queue[0]
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def answer(body: bytes = MANIFEST, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def test_a_reference_resolves_to_the_manifest_in_the_registry(registry) -> None:
    registry.answers = [answer(docker_content_digest=DIGEST)]
    found = resolve_reference(f"{registry.host}/team/x:1")
    assert found.digest == DIGEST
    assert found.media_type == MANIFEST_TYPES[0]
    assert found.image == "sha256:config"
    assert [layer.size for layer in found.layers] == [30, 12]


def test_every_type_of_manifest_is_accepted(registry) -> None:
    registry.answers = [answer()]
    resolve_reference(f"{registry.host}/team/x:1")
    path, headers = registry.requests[0]
    assert path == "/v2/team/x/manifests/1"
    assert headers["accept"] == ", ".join(MANIFEST_TYPES)


def test_a_missing_manifest_is_not_an_error(registry) -> None:
    registry.answers = [answer(b"{}", 404)]
    assert resolve_reference(f"{registry.host}/x:1") is None


def test_a_request_to_a_busy_registry_is_repeated(registry) -> None:
    registry.answers = [answer(b"", 503), answer(b"", 429), answer()]
    assert resolve_reference(f"{registry.host}/x:1").digest == DIGEST
    assert len(registry.requests) == 3


def test_a_registry_that_stays_busy_is_an_error(registry) -> None:
    registry.answers = [answer(b"", 500)]
    with pytest.raises(RegistryError, match="answered 500"):
        resolve_reference(f"{registry.host}/x:1", patience=0.3)


def test_a_registry_that_requires_a_login_is_an_error_with_a_remedy(registry) -> None:
    registry.answers = [answer(b"", 401)]
    with pytest.raises(RegistryError, match="docker login"):
        resolve_reference(f"{registry.host}/x:1")
    assert len(registry.requests) == 1


def test_a_digest_that_is_not_that_of_the_content_is_an_error(registry) -> None:
    registry.answers = [answer(docker_content_digest="sha256:" + "0" * 64)]
    with pytest.raises(RegistryError, match="announces sha256:000"):
        resolve_reference(f"{registry.host}/x:1")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"layers": [{}]}', b'{"config": 3}'])
def test_a_response_that_is_not_a_manifest_is_an_error(registry, body) -> None:
    registry.answers = [answer(body)]
    with pytest.raises(RegistryError, match="is not a registry"):
        resolve_reference(f"{registry.host}/x:1")


def test_an_index_has_no_configuration(registry) -> None:
    registry.answers = [answer(json.dumps({"mediaType": MANIFEST_TYPES[3], "manifests": []}).encode())]
    found = resolve_reference(f"{registry.host}/x:1")
    assert (found.media_type, found.image, found.layers) == (MANIFEST_TYPES[3], "", ())


class RenewedLogin:
    """A login that gets another password when one was refused."""

    def __init__(self) -> None:
        self.password = 1

    def headers(self, host: str, scope: str) -> dict[str, str]:
        return {"authorization": f"Basic {self.password} for {host} to {scope}"}

    def renew(self, _host: str, _scope: str, _challenge: str) -> bool:
        self.password += 1
        return True


def test_the_headers_of_the_login_are_sent(registry) -> None:
    registry.answers = [answer()]
    resolve_reference(f"{registry.host}/team/x:1", login=RenewedLogin())
    assert registry.requests[0][1]["authorization"] == f"Basic 1 for {registry.host} to repository:team/x:pull,push"


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_has_expired_is_renewed_once(registry, status) -> None:
    registry.answers = [answer(b"", status), answer()]
    assert resolve_reference(f"{registry.host}/x:1", login=RenewedLogin()).digest == DIGEST
    assert [headers["authorization"][:7] for _, headers in registry.requests] == ["Basic 1", "Basic 2"]
    registry.answers = [answer(b"", status)]
    with pytest.raises(RegistryError, match="requires a login"):
        resolve_reference(f"{registry.host}/x:1", login=RenewedLogin())


def test_a_host_where_nothing_listens_is_an_error_with_a_remedy(registry) -> None:
    host = registry.host
    registry.server_close()
    with pytest.raises(RegistryError, match=r"cannot reach the registry .*is it running\?"):
        resolve_reference(f"{host}/x:1", patience=0.3)


def test_a_registry_is_reachable_even_if_it_requires_a_login(registry) -> None:
    registry.answers = [answer(b"{}", 401)]
    assert is_reachable(registry.host)
    registry.answers = [answer(b"", 404)]
    assert not is_reachable(registry.host)
    assert not is_reachable("127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:5000/x:1", "http://127.0.0.1:5000/v2/x/manifests/1"),
        ("localhost/x/y", "http://localhost/v2/x/y/manifests/latest"),
        ("r.example.org/x:1", "https://r.example.org/v2/x/manifests/1"),
        ("r.example.org:8443/a/b/c@sha256:ab", "https://r.example.org:8443/v2/a/b/c/manifests/sha256:ab"),
        ("r.example.org/x:1@sha256:ab", "https://r.example.org/v2/x/manifests/sha256:ab"),
    ],
)
def test_the_parts_of_a_reference_give_the_url_of_its_manifest(text, url) -> None:
    reference = parse_reference(text)
    assert f"{base_url(reference.host)}/v2/{reference.repository}/manifests/{reference.tag_or_digest}" == url


@pytest.mark.parametrize("text", ["debian", "debian:1", "team/x:1", ""])
def test_a_reference_without_a_registry_is_an_error(text) -> None:
    with pytest.raises(RegistryError, match="names no registry"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("localhost:5000", True), ("127.1.2.3:80", True), ("[::1]:5000", True), ("[::1]", True),
     ("10.0.0.1:5000", False), ("r.example.org", False)],
)  # fmt: skip
def test_only_loopback_addresses_use_plain_http(host, loopback) -> None:
    assert is_loopback(host) is loopback
