"""Authenticate to registries: `docker login`, bearer tokens, and a temporary `DOCKER_CONFIG` for subprocesses."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from rlimages.errors import FactoryError, RegistryError
from rlimages.system.process import is_dead, this_process


def docker_folder(environ: Mapping[str, str]) -> Path:
    """Where `docker login` leaves what it learns."""
    return Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


_TOKEN_SECONDS = 60
"""How long a token holds that does not say; the distribution's token protocol says so."""
_RENEW_SECONDS = 20
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
            if token and self._clock() < until - _RENEW_SECONDS:
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


CONFIG_PREFIX = "rlimages-login-"


@contextmanager
def temporary_docker_config(
    credentials: Credentials, hosts: Iterable[str], environ: Mapping[str, str]
) -> Iterator[Path]:
    """A folder that says who we are to `hosts`, and to nobody else; it is removed at the end, whatever happens.

    What a process left that was killed, the next one removes. Raises `FactoryError` when it can't be written.
    """
    parent = secrets_folder(environ)
    remove_stale_configs(parent)
    found = {host: credentials.find(host) for host in hosts}
    auths = {
        host: {"auth": base64.b64encode(":".join(known).encode()).decode()} for host, known in found.items() if known
    }
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{CONFIG_PREFIX}{this_process()}-", dir=parent))  # for us alone: 0700
    except OSError as error:
        raise FactoryError(f"{parent}: cannot make a folder for a login: {error.strerror}") from error
    try:
        _write_private(folder / "config.json", json.dumps({"auths": auths}))
        yield folder
    finally:
        shutil.rmtree(folder)


def secrets_folder(environ: Mapping[str, str]) -> Path:
    """Where such folders are: in memory where the machine offers that, and otherwise with temporary files."""
    for name in (environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if name and os.access(name, os.W_OK):
            return Path(name)
    return Path(tempfile.gettempdir())


def remove_stale_configs(parent: Path) -> None:
    """Remove the folders whose process is gone."""
    for folder in parent.glob(f"{CONFIG_PREFIX}*-*"):
        process = folder.name.removeprefix(CONFIG_PREFIX).rpartition("-")[0]
        if process.count(":") >= 2 and is_dead(process):
            shutil.rmtree(folder, ignore_errors=True)  # somebody else may be removing it, or it is another's


def _write_private(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise FactoryError(f"{path}: cannot write a login: {error.strerror}") from error
