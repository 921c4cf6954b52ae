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

CONFIG_PREFIX = "rlimages-login-"
"""Name prefix of the temporary folders with credentials; the id of the process that created the folder follows it."""
_DEFAULT_TOKEN_SECONDS = 60
"""Validity of a token without `expires_in`, according to the token protocol of the distribution registry."""
_RENEW_SECONDS = 20
"""Seconds before the end of its validity from which a token is not used, so that it does not expire on the way."""
_HELPER_TIMEOUT = 60
"""Seconds for a credential helper. It may ask the user to unlock a key store."""
_TOKEN_TIMEOUT = 30.0
"""Seconds for a token server to connect, or to send or accept the next bytes."""
Clock = Callable[[], float]
"""Returns the current time in seconds."""


class Credentials:
    """A source of user names and passwords for registries: the interface of the classes that read them."""

    def find(self, host: str) -> tuple[str, str] | None:
        """Return user name and password for the registry at `host`; None if this source has none for it."""
        raise NotImplementedError

    def forget(self, host: str) -> bool:
        """Drop the password for `host`, which the registry refused.

        Return True if the next `find` may give another one. This implementation keeps none, so it returns False.
        """
        return False


class DockerCredentials(Credentials):
    """The credentials that `docker login` stored, in Docker's `config.json` or in the credential helper named there."""

    def __init__(self, folder: Path) -> None:
        """Read `config.json` in `folder`, which is the folder of Docker's configuration, at each lookup."""
        self._file = folder / "config.json"

    def find(self, host: str) -> tuple[str, str] | None:
        """Return user name and password for the registry at `host`; None if `docker login` stored none.

        Raise `RegistryError` if `config.json` cannot be read, or if the credential helper gives no valid answer.
        """
        try:
            config: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RegistryError(f"{self._file}: cannot be read: {error}") from error
        helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
        if helper:
            return _ask_helper(str(helper), host)
        auth = config.get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(auth).decode("utf-8", errors="replace").partition(":")
        return (user, password) if colon else None


class RegistryLogin:
    """The login for registries with authentication: it makes the header `Authorization` of each request.

    It sends user name and password (basic authentication) until a registry asks for a bearer token. It keeps one token
    for each host and scope (a text such as `repository:<name>:pull,push`). May be used by several threads.
    """

    def __init__(self, credentials: Credentials, *, clock: Clock = time.monotonic) -> None:
        """Take user names and passwords from `credentials`. `clock` returns the time by which tokens expire."""
        self._credentials = credentials
        self._clock = clock
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        """Host and scope -> the token and the time of `clock` at which it expires."""
        self._lock = Lock()

    def headers(self, host: str, scope: str) -> Mapping[str, str]:
        """Return the header `authorization` for a request to `host` with `scope`; empty if there are no credentials.

        Raise `RegistryError` if the source of the credentials is broken.
        """
        with self._lock:
            token, expires = self._tokens.get((host, scope), ("", 0.0))
            if token and self._clock() < expires - _RENEW_SECONDS:
                return {"authorization": f"Bearer {token}"}
            found = self._credentials.find(host)
            return {"authorization": _basic_auth(*found)} if found else {}

    def renew(self, host: str, scope: str, challenge: str) -> bool:
        """Get new credentials for `host` and `scope` after the registry refused a request.

        `challenge` is the WWW-Authenticate header of its response. If it names a token server, a token is fetched there
        and kept. If it names none, the refused password is dropped. Return whether a second attempt may succeed. Raise
        `RegistryError` if the token server gives no token.
        """
        with self._lock:
            self._tokens.pop((host, scope), None)
            if challenge.lower().startswith("bearer "):
                parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
                self._tokens[host, scope] = self._fetch_token(host, parameters, scope)
                return True
            return self._credentials.forget(host)

    def _fetch_token(self, host: str, parameters: Mapping[str, str], scope: str) -> tuple[str, float]:
        """Return a new bearer token, and the time of `clock` at which it expires.

        `parameters` are those of the registry's challenge: `realm` (the URL of the token server), `service` and
        `scope`. The argument `scope` is used if the challenge has none. Raise `RegistryError` if the server gives no
        token.
        """
        import httpx

        query = {"service": parameters.get("service", ""), "scope": parameters.get("scope", scope)}
        found = self._credentials.find(host)
        try:
            response = httpx.get(
                parameters.get("realm", ""),
                params={name: value for name, value in query.items() if value},
                headers={"authorization": _basic_auth(*found)} if found else {},
                timeout=_TOKEN_TIMEOUT,
            )
            if response.status_code in (401, 403):
                raise RegistryError(
                    f"{host} gives no token for {query['scope']} ({response.status_code}); try `docker login {host}`"
                )
            answer = response.raise_for_status().json()
            # Servers name the field `token`, OAuth 2 servers `access_token`; the protocol allows both.
            token = str(answer.get("token") or answer["access_token"])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            raise RegistryError(f"cannot get a token for {host}: {error}") from error
        return token, self._clock() + max(int(answer.get("expires_in") or 0), _DEFAULT_TOKEN_SECONDS)


@contextmanager
def temporary_docker_config(
    credentials: Credentials, hosts: Iterable[str], environ: Mapping[str, str]
) -> Iterator[Path]:
    """Write the logins of `hosts` from `credentials` to `config.json` in a new temporary folder, and yield the folder.

    The folder is meant as `DOCKER_CONFIG` of a subprocess. Hosts without credentials are left out. The folder has mode
    0700, the file 0600; both are deleted at the end of the `with` block. `environ` decides where the folder is created:
    see `secrets_folder`. Folders that killed processes left there are deleted first. Raise `FactoryError` if folder or
    file cannot be written, and `RegistryError` if the source of the credentials is broken.
    """
    parent = secrets_folder(environ)
    remove_stale_configs(parent)
    found = {host: credentials.find(host) for host in hosts}
    auths = {
        host: {"auth": base64.b64encode(":".join(login).encode()).decode()} for host, login in found.items() if login
    }
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{CONFIG_PREFIX}{this_process()}-", dir=parent))  # creates it as 0700
    except OSError as error:
        raise FactoryError(f"{parent}: cannot create a folder for credentials: {error.strerror}") from error
    try:
        _write_private(folder / "config.json", json.dumps({"auths": auths}))
        yield folder
    finally:
        shutil.rmtree(folder)


def secrets_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder in which temporary folders with credentials are created.

    It is XDG_RUNTIME_DIR of `environ` or /dev/shm, which are in memory, so that no secret reaches a disk. If neither
    can be written, it is the system's folder for temporary files.
    """
    for name in (environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if name and os.access(name, os.W_OK):
            return Path(name)
    return Path(tempfile.gettempdir())


def remove_stale_configs(parent: Path) -> None:
    """Delete the temporary folders with credentials in `parent` that were created by processes that no longer run."""
    for folder in parent.glob(f"{CONFIG_PREFIX}*-*"):
        process = folder.name.removeprefix(CONFIG_PREFIX).rpartition("-")[0]
        if process.count(":") >= 2 and is_dead(process):
            # Ignore errors: another process may delete it at the same moment, or it belongs to another user.
            shutil.rmtree(folder, ignore_errors=True)


def docker_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of Docker's configuration: DOCKER_CONFIG of `environ`, or else `.docker` in the home folder."""
    return Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _basic_auth(user: str, password: str) -> str:
    """Return the value of the header `Authorization` for basic authentication with `user` and `password`."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _ask_helper(name: str, host: str) -> tuple[str, str] | None:
    """Return user name and password for `host` from the credential helper `name`; None if it has none.

    The helper is the program `docker-credential-<name>`. Raise `RegistryError` if it cannot be run, does not answer in
    time, or gives no valid answer.
    """
    program = f"docker-credential-{name}"
    try:
        # The helpers' protocol: the host on standard input, JSON on standard output.
        answer = subprocess.run(
            [program, "get"], input=host, capture_output=True, text=True, check=False, timeout=_HELPER_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"{program}, which Docker's configuration names, does not answer: {error}") from error
    if answer.returncode != 0:
        return None
    try:
        fields = json.loads(answer.stdout)
        return str(fields["Username"]), str(fields["Secret"])
    except (ValueError, KeyError) as error:
        raise RegistryError(f"{program} gave no user and password for {host}") from error


def _write_private(path: Path, text: str) -> None:
    """Write `text` to the new file `path`, which only its owner can read.

    Raise `FactoryError` if the file exists or cannot be written.
    """
    try:
        # Created with this mode, and not changed to it later: there is no moment at which others can open the file.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise FactoryError(f"{path}: cannot write credentials: {error.strerror}") from error
