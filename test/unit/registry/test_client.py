"""Asked is a registry on loopback that answers as it is told to."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rlimages.errors import RegistryError
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, MEDIA_TYPES, parse_reference
from rlimages.registry.client import resolve_reference
from rlimages.registry.http import base_url, is_loopback, is_reachable

MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPES[0],
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
        """The last one is given for ever."""
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
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


def holds(body: bytes = MANIFEST, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def test_a_reference_resolves_to_what_the_registry_holds(registry) -> None:
    registry.answers = [holds(docker_content_digest=DIGEST)]
    found = resolve_reference(f"{registry.host}/team/x:1")
    assert found.digest == DIGEST
    assert found.media_type == MEDIA_TYPES[0]
    assert found.image == "sha256:config"
    assert [layer.size for layer in found.layers] == [30, 12]


def test_every_kind_of_manifest_is_asked_for(registry) -> None:
    registry.answers = [holds()]
    resolve_reference(f"{registry.host}/team/x:1")
    path, headers = registry.asked[0]
    assert path == "/v2/team/x/manifests/1"
    assert headers["accept"] == ", ".join(MEDIA_TYPES)


def test_nothing_there_is_an_answer(registry) -> None:
    registry.answers = [holds(b"{}", 404)]
    assert resolve_reference(f"{registry.host}/x:1") is None


def test_a_busy_registry_is_asked_again(registry) -> None:
    registry.answers = [holds(b"", 503), holds(b"", 429), holds()]
    assert resolve_reference(f"{registry.host}/x:1").digest == DIGEST
    assert len(registry.asked) == 3


def test_a_registry_that_stays_busy_is_an_error(registry) -> None:
    registry.answers = [holds(b"", 500)]
    with pytest.raises(RegistryError, match="answered 500"):
        resolve_reference(f"{registry.host}/x:1", patience=0.3)


def test_a_registry_that_wants_a_login_says_what_to_do(registry) -> None:
    registry.answers = [holds(b"", 401)]
    with pytest.raises(RegistryError, match="docker login"):
        resolve_reference(f"{registry.host}/x:1")
    assert len(registry.asked) == 1


def test_a_digest_that_is_not_that_of_the_bytes_is_an_error(registry) -> None:
    registry.answers = [holds(docker_content_digest="sha256:" + "0" * 64)]
    with pytest.raises(RegistryError, match="announces sha256:000"):
        resolve_reference(f"{registry.host}/x:1")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"layers": [{}]}', b'{"config": 3}'])
def test_what_is_no_registry_is_an_error_in_words(registry, body) -> None:
    registry.answers = [holds(body)]
    with pytest.raises(RegistryError, match="is not a registry"):
        resolve_reference(f"{registry.host}/x:1")


def test_an_index_has_no_configuration(registry) -> None:
    registry.answers = [holds(json.dumps({"mediaType": MEDIA_TYPES[3], "manifests": []}).encode())]
    found = resolve_reference(f"{registry.host}/x:1")
    assert (found.media_type, found.image, found.layers) == (MEDIA_TYPES[3], "", ())


class Someone:
    """A login that gets another password when the first one was refused."""

    def __init__(self) -> None:
        self.password = 1

    def headers(self, host: str, scope: str) -> dict[str, str]:
        return {"authorization": f"Basic {self.password} for {host} to {scope}"}

    def renew(self, _host: str, _scope: str, _challenge: str) -> bool:
        self.password += 1
        return True


def test_who_we_are_reaches_the_registry(registry) -> None:
    registry.answers = [holds()]
    resolve_reference(f"{registry.host}/team/x:1", login=Someone())
    assert registry.asked[0][1]["authorization"] == f"Basic 1 for {registry.host} to repository:team/x:pull,push"


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_has_expired_is_renewed_once(registry, status) -> None:
    registry.answers = [holds(b"", status), holds()]
    assert resolve_reference(f"{registry.host}/x:1", login=Someone()).digest == DIGEST
    assert [headers["authorization"][:7] for _, headers in registry.asked] == ["Basic 1", "Basic 2"]
    registry.answers = [holds(b"", status)]
    with pytest.raises(RegistryError, match="requires a login"):
        resolve_reference(f"{registry.host}/x:1", login=Someone())


def test_where_nothing_listens_is_an_error_with_a_remedy(registry) -> None:
    host = registry.host
    registry.server_close()
    with pytest.raises(RegistryError, match=r"cannot reach the registry .*is it running\?"):
        resolve_reference(f"{host}/x:1", patience=0.3)


def test_a_registry_answers_or_it_does_not(registry) -> None:
    registry.answers = [holds(b"{}", 401)]
    assert is_reachable(registry.host)
    registry.answers = [holds(b"", 404)]
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
def test_a_reference_says_where_its_manifest_is(text, url) -> None:
    place = parse_reference(text)
    assert f"{base_url(place.host)}/v2/{place.repository}/manifests/{place.tag_or_digest}" == url


@pytest.mark.parametrize("text", ["debian", "debian:1", "team/x:1", ""])
def test_no_registry_is_ever_guessed(text) -> None:
    with pytest.raises(RegistryError, match="names no registry"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("localhost:5000", True), ("127.1.2.3:80", True), ("[::1]:5000", True), ("[::1]", True),
     ("10.0.0.1:5000", False), ("r.example.org", False)],
)  # fmt: skip
def test_only_loopback_is_spoken_to_in_the_open(host, loopback) -> None:
    assert is_loopback(host) is loopback
