"""Ask the engine's socket for its images without loading the Docker client, which takes a third of a second."""

import json
import re
import socket
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT = 60.0
"""Seconds; an engine that removes images answers late."""
_VERSION = re.compile(rb"^api-version: *([\d.]+)", re.IGNORECASE | re.MULTILINE)


def list_images(environ: Mapping[str, str], **filters: str) -> list[dict[str, Any]] | None:
    """The images of the local store, as the engine's API describes them (`GET /images/json`)."""
    found = _ask(environ, "/images/json", filters)
    return found if isinstance(found, list) else None


def has_label(label: str, environ: Mapping[str, str]) -> bool | None:
    """Whether a container, network or volume carries this label."""
    containers = _ask(environ, "/containers/json", {"label": label}, "all=1&")
    networks = _ask(environ, "/networks", {"label": label})
    volumes = _ask(environ, "/volumes", {"label": label})
    if not (isinstance(containers, list) and isinstance(networks, list) and isinstance(volumes, dict)):
        return None
    return bool(containers or networks or volumes.get("Volumes"))


def _ask(environ: Mapping[str, str], path: str, filters: Mapping[str, str], words: str = "") -> Any:
    scheme, _, address = (environ.get("DOCKER_HOST") or _DEFAULT).partition("://")
    if scheme != "unix":
        return None
    asked = quote(json.dumps({name: [value] for name, value in filters.items()}))
    try:
        head, body = _get(address, f"/v{_version(address)}{path}?{words}filters={asked}")
        return json.loads(body) if head.split(maxsplit=2)[1] == b"200" else None
    except (OSError, ValueError, LookupError):
        return None


@cache
def _version(address: str) -> str:
    """The newest version of the API that the engine speaks. Raises `ValueError` where none is said."""
    found = _VERSION.search(_get(address, "/_ping")[0])
    if found is None:
        raise ValueError("the engine does not say its version")
    return found[1].decode()


def _get(address: str, path: str) -> tuple[bytes, bytes]:
    """The status line and headers of an answer, and its content. Raises `OSError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(_TIMEOUT)
        link.connect(address)
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        with link.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return head, body
