"""What an engine has, asked over its socket: loading the engine's Python client takes longer than all these answers.

Only what a run must know before it knows that there is nothing to do. An answer of None says that this way is not
open, as to an engine over TCP or SSH, or to one that is not there: then the client asks, and says what is wrong.
"""

import json
import socket
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT = 60.0
"""Seconds; an engine that removes images answers late."""


def images(environ: Mapping[str, str], **filters: str) -> list[dict[str, Any]] | None:
    """The images of the local store, as the engine's API describes them (`GET /images/json`)."""
    found = _ask(environ, "/images/json", filters)
    return found if isinstance(found, list) else None


def is_labelled(label: str, environ: Mapping[str, str]) -> bool | None:
    """Whether a container, network or volume carries this label."""
    containers = _ask(environ, "/containers/json", {"label": label}, "all=1&")
    networks = _ask(environ, "/networks", {"label": label})
    volumes = _ask(environ, "/volumes", {"label": label})
    if not (isinstance(containers, list) and isinstance(networks, list) and isinstance(volumes, dict)):
        return None
    return bool(containers or networks or volumes.get("Volumes"))


class _Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(environ: Mapping[str, str], path: str, filters: Mapping[str, str], words: str = "") -> Any:
    scheme, _, address = (environ.get("DOCKER_HOST") or _DEFAULT).partition("://")
    if scheme != "unix":
        return None
    asked = quote(json.dumps({name: [value] for name, value in filters.items()}))
    with closing(_Connection(address)) as connection:
        try:
            connection.request("GET", "/_ping")
            hello = connection.getresponse()
            hello.read()
            connection.request("GET", f"/v{hello.headers['Api-Version']}{path}?{words}filters={asked}")
            answer = connection.getresponse()
            return json.load(answer) if answer.status == 200 else None
        except (OSError, HTTPException, ValueError):
            return None
