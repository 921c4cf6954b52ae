"""Who we are to registries: what `docker login` left, HTTP's Basic, and the tokens that registries trade for it.

A password is held in memory only: it never stands on a command line, in a log or in a file of ours.
"""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from rlimages.errors import RegistryError

_TOKEN_SECONDS = 60
"""How long a token holds that does not say; the distribution's token protocol says so."""
_EARLY = 20
"""Seconds before its end at which a token is no longer used."""

Clock = Callable[[], float]


class Credentials:
    """A user and a password for some hosts, looked up when they are first needed."""

    def find(self, host: str) -> tuple[str, str] | None:
        """User and password; None where nobody is known."""
        raise NotImplementedError

    def forget(self, host: str) -> bool:
        """Look again the next time; False when that gives the same."""
        return False


class DockerCredentials(Credentials):
    """What `docker login` left in `config.json`, or in the helper that it names."""

    def __init__(self, folder: Path) -> None:
        """`folder` is DOCKER_CONFIG, or `.docker` in the home."""
        self._file = folder / "config.json"

    def find(self, host: str) -> tuple[str, str] | None:
        """User and password. Raises `RegistryError` where the file or the helper is broken."""
        try:
            config: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RegistryError(f"{self._file}: cannot be read: {error}") from error
        helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
        if helper:
            return _ask_helper(str(helper), host)
        text = config.get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(text).decode("utf-8", errors="replace").partition(":")
        return (user, password) if colon else None


class RegistryLogin:
    """The headers for each host and scope: Basic, or a bearer token where a registry's challenge asks for one."""

    def __init__(self, credentials: Credentials, *, clock: Clock = time.monotonic) -> None:
        """Takes users and passwords from `credentials`."""
        self._credentials = credentials
        self._clock = clock
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        self._lock = Lock()

    def headers(self, host: str, scope: str) -> Mapping[str, str]:
        """`Authorization`, once it is known what the registry wants."""
        with self._lock:
            token, until = self._tokens.get((host, scope), ("", 0.0))
            if token and self._clock() < until - _EARLY:
                return {"authorization": f"Bearer {token}"}
            known = self._credentials.find(host)
            return {"authorization": _basic(*known)} if known else {}

    def refused(self, host: str, scope: str, challenge: str) -> bool:
        """Get a token where the challenge names who gives one; else look for a newer password."""
        with self._lock:
            self._tokens.pop((host, scope), None)
            if challenge.lower().startswith("bearer "):
                words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
                self._tokens[host, scope] = self._trade(host, words, scope)
                return True
            return self._credentials.forget(host)

    def _trade(self, host: str, words: Mapping[str, str], scope: str) -> tuple[str, float]:
        import httpx

        asked = {"service": words.get("service", ""), "scope": words.get("scope", scope)}
        known = self._credentials.find(host)
        try:
            answer = httpx.get(
                words.get("realm", ""),
                params={name: value for name, value in asked.items() if value},
                headers={"authorization": _basic(*known)} if known else {},
                timeout=30.0,
            )
            if answer.status_code in (401, 403):
                raise RegistryError(
                    f"{host} gives no token for {asked['scope']} ({answer.status_code}); `docker login`?"
                )
            told = answer.raise_for_status().json()
            token = str(told.get("token") or told["access_token"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            raise RegistryError(f"cannot get a token for {host}: {error}") from error
        return token, self._clock() + max(int(told.get("expires_in") or 0), _TOKEN_SECONDS)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _ask_helper(name: str, host: str) -> tuple[str, str] | None:
    """What `docker-credential-<name> get` says: the host goes in by standard input, JSON comes out."""
    program = f"docker-credential-{name}"
    try:
        said = subprocess.run([program, "get"], input=host, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"{program}, which docker's configuration names, does not answer: {error}") from error
    if said.returncode != 0:
        return None
    try:
        told = json.loads(said.stdout)
        return str(told["Username"]), str(told["Secret"])
    except (ValueError, KeyError) as error:
        raise RegistryError(f"{program} gave no user and password for {host}") from error
