"""Read images and labels from the Docker engine's HTTP API, over its Unix socket.

Importing the Docker client takes a third of a second. A build with nothing to do needs only these two requests.
"""

import json
import re
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_TIMEOUT = 60.0
"""Seconds for the engine to answer. It answers late while it removes images."""
_API_VERSION = re.compile(rb"^api-version: *([\d.]+)", re.IGNORECASE | re.MULTILINE)


def list_images(environ: Mapping[str, str], **filters: str) -> list[dict[str, Any]] | None:
    """Return the images of the local store (the engine's images), each as `GET /images/json` describes it.

    `environ` has the address of the engine, DOCKER_HOST. `filters` are the API's own filters, such as `label` and
    `dangling`, with one value each. Return None if the engine has no Unix socket or the request fails: the caller then
    uses the Docker client, which raises an error with the reason.
    """
    images = _get_json(environ, "/images/json", filters)
    return images if isinstance(images, list) else None


def has_label(label: str, environ: Mapping[str, str]) -> bool | None:
    """Return whether any container, network or volume of the engine has the label named `label`.

    `environ` has the address of the engine, DOCKER_HOST. Return None if the engine has no Unix socket or a request
    fails.
    """
    containers = _get_json(environ, "/containers/json", {"label": label}, "all=1&")
    networks = _get_json(environ, "/networks", {"label": label})
    volumes = _get_json(environ, "/volumes", {"label": label})
    if not (isinstance(containers, list) and isinstance(networks, list) and isinstance(volumes, dict)):
        return None
    return bool(containers or networks or volumes.get("Volumes"))


def _get_json(environ: Mapping[str, str], path: str, filters: Mapping[str, str], query: str = "") -> Any:
    """Return the decoded JSON that the engine sends for a GET request to `path` with `filters`.

    `environ` has the address of the engine, DOCKER_HOST. `query` has further parameters of the URL, and ends with `&`
    if it is not empty. Return None if the engine has no Unix socket or the request fails.
    """
    scheme, _, address = (environ.get("DOCKER_HOST") or _DEFAULT_HOST).partition("://")
    if scheme != "unix":
        return None
    encoded = quote(json.dumps({name: [value] for name, value in filters.items()}))
    try:
        head, body = _get(address, f"/v{_api_version(address)}{path}?{query}filters={encoded}")
        return json.loads(body) if head.split(maxsplit=2)[1] == b"200" else None
    except (OSError, ValueError, LookupError):
        return None


@cache
def _api_version(address: str) -> str:
    """Return the newest API version that the engine at the socket `address` supports, such as `1.47`.

    Raises `ValueError` if the engine's answer names none, and `OSError` if the engine does not answer.
    """
    found = _API_VERSION.search(_get(address, "/_ping")[0])
    if found is None:
        raise ValueError("the engine does not name its API version")
    return found[1].decode()


def _get(address: str, path: str) -> tuple[bytes, bytes]:
    """Send one GET request for `path` to the Unix socket `address`. Return the response's head, and its body.

    The head is the status line and the headers. Raises `OSError` if the engine does not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(address)
        # HTTP/1.0: the engine closes the connection after the body, and never sends it in chunks.
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        with connection.makefile("rb") as response:
            head, _, body = response.read().partition(b"\r\n\r\n")
    return head, body
