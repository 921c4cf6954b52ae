"""Send HTTP requests to a registry: login, retries while it is busy, and errors in its own words."""

import ipaddress
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from rlimages.errors import RegistryError
from rlimages.registry.request_counter import RequestCounter

if TYPE_CHECKING:
    import httpx


PATIENCE = 10.0
"""Seconds for all attempts of one request. A command that the user interrupts waits no longer than this."""
_FIRST_WAIT = 0.1
"""Seconds before the second attempt, doubled before each further one; less if the patience is short."""
_TIMEOUT = 30.0
"""Seconds for a registry to connect, or to send or accept the next bytes."""
_REACHABLE_TIMEOUT = 5.0
"""Seconds for the first answer of a registry when it is only asked whether it is there."""


class Login(Protocol):
    """The credentials for the requests to a registry."""

    def headers(self, host: str, scope: str) -> Mapping[str, str]:
        """Return the headers for a request with a scope such as `repository:<name>:pull,push`."""

    def renew(self, host: str, scope: str, challenge: str) -> bool:
        """Get other credentials after a 401 or 403. Return False if a second attempt would use the same ones.

        `challenge` is the WWW-Authenticate header of the response.
        """


class AnonymousLogin:
    """The login for registries without authentication."""

    def headers(self, _host: str, _scope: str) -> Mapping[str, str]:
        """Return no headers."""
        return {}

    def renew(self, _host: str, _scope: str, _challenge: str) -> bool:
        """Return False: there are no other credentials."""
        return False


class RegistryHttp:
    """The HTTP connection to one registry. May be used by several threads.

    A path is relative to `/v2/`, or an absolute path or URL that the registry returned.
    """

    def __init__(self, host: str, *, login: Login | None, counter: RequestCounter | None, patience: float) -> None:
        """Connect to `host[:port]` with the first request. `patience` is in seconds, as for `PATIENCE`."""
        self.host = host
        self.counter = counter or RequestCounter()
        self._login = login or AnonymousLogin()
        self._patience = patience
        self._open_client: httpx.Client | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        with self._lock:
            if self._open_client is not None:
                self._open_client.close()
            self._open_client = None

    def request(
        self,
        method: str,
        path: str,
        *,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> "httpx.Response":
        """Send a request until its status is one of `expected`; repeat it while the registry is busy or unreachable.

        Raise `RegistryError` for any other status, or if the patience ends.
        """
        for attempt in self.attempts():
            with attempt, self._send(method, path, _scope(_repository(path)), headers or {}, content) as response:
                response.read()
                return self._require_status(response, expected, path)
        raise AssertionError("the last attempt raises")

    def request_once(
        self,
        method: str,
        path: str,
        repository: str,
        expected: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> "httpx.Response":
        """Send a request without repeating it; the body may be an iterator of bytes.

        Raise `RegistryError` if the status is not one of `expected`. In a block of `attempts`, the block is repeated.
        """
        with self._send(method, path, _scope(repository), headers or {}, content) as response:
            response.read()
            return self._require_status(response, expected, path)

    @contextmanager
    def stream(self, path: str, repository: str) -> Iterator["httpx.Response"]:
        """Send a GET request once, and yield the response before its body is read."""
        with self._send("GET", path, _scope(repository), {}, None) as response:
            yield self._require_status(response, (200,), path)

    def attempts(self) -> Iterator[Any]:
        """Yield contexts for `with` blocks; a block is repeated while the registry is busy and the patience lasts."""
        import stamina
        from stamina.instrumentation import set_on_retry_hooks

        set_on_retry_hooks([])  # stamina logs each retry to standard error, in the middle of the progress display
        first = min(_FIRST_WAIT, self._patience / 20)
        # The jitter keeps the parallel uploads of a release from coming back at the same moment.
        waits = {"wait_initial": first, "wait_jitter": 2 * first}
        return iter(stamina.retry_context(on=self._retry_wait, attempts=None, timeout=self._patience, **waits))

    def _retry_wait(self, error: Exception) -> bool | float:
        """Return the seconds before the next attempt: what the registry asks for, but no more than the patience.

        True stands for stamina's own back-off, and False for no further attempt.
        """
        if not isinstance(error, _BusyError):
            return False
        return True if error.wait is None else min(error.wait, self._patience)

    @contextmanager
    def _send(
        self, method: str, path: str, scope: str, headers: Mapping[str, str], content: Any
    ) -> Iterator["httpx.Response"]:
        """Send a request, and once more with new credentials after a 401 or 403."""
        import httpx

        client, url = self._client(), self._url(path)
        # Credentials are for the registry only: an upload may continue at another host, such as a storage service.
        is_own_host = urlsplit(url).netloc == self.host
        try:
            for is_last in (False, True):
                login = self._login.headers(self.host, scope) if is_own_host else {}
                self.counter.count_request(method, urlsplit(url).path)
                with client.stream(method, url, headers={**headers, **login}, content=content) as response:
                    # ECR answers an expired token with 403, and not with 401.
                    may_renew = response.status_code in (401, 403) and is_own_host and not is_last
                    challenge = response.headers.get("www-authenticate", "")
                    if may_renew and self._login.renew(self.host, scope, challenge):
                        if isinstance(content, bytes | None):
                            continue
                        # An iterator is used up and cannot be sent again here: the whole upload starts again.
                        raise _BusyError(f"{self.host} required a new login during an upload", 0.0)
                    yield response
                    return
        except (httpx.TransportError, httpx.StreamError) as error:
            hint = "is it running?" if is_loopback(self.host) else "check the name, the network and the proxy"
            raise _BusyError(
                f"cannot reach the registry {self.host} ({_exception_message(error)}); {hint}", None
            ) from error
        except httpx.InvalidURL as error:
            raise RegistryError(f"cannot reach the registry {self.host} ({error}); check the name") from error

    def _require_status(self, response: "httpx.Response", expected: tuple[int, ...], path: str) -> "httpx.Response":
        """Return the response if its status is expected; otherwise raise `RegistryError`."""
        status = response.status_code
        if status in expected:
            return response
        request = f"{response.request.method} {urlsplit(path).path}"
        message = _error_message(response)
        if status == 429 or status >= 500:
            raise _BusyError(
                f"{self.host} answered {status} to {request}{message}; try again later", _retry_after(response)
            )
        if status in (401, 403):
            raise RegistryError(
                f"{self.host} requires a login for {request} ({status}){message}; try `docker login {self.host}`"
            )
        raise RegistryError(f"{self.host} answered {status} to {request}{message}")

    def _url(self, path: str) -> str:
        if path.startswith(("http:", "https:")):
            return path
        return f"{base_url(self.host)}{path if path.startswith('/') else f'/v2/{path}'}"

    def _client(self) -> "httpx.Client":
        import httpx

        with self._lock:
            if self._open_client is None:
                # On loopback the protocol is plain http: loading certificates would only cost time, and a proxy of the
                # environment cannot reach this machine's loopback address.
                is_remote = not is_loopback(self.host)
                self._open_client = httpx.Client(
                    timeout=_TIMEOUT, verify=is_remote, trust_env=is_remote, follow_redirects=True
                )
            return self._open_client


class _BusyError(RegistryError):
    """A failure that may pass without any change here: a busy or unreachable registry."""

    def __init__(self, message: str, wait: float | None) -> None:
        """`wait` is the number of seconds that the registry asks for; None if it asks for none."""
        super().__init__(message)
        self.wait = wait


def _retry_after(response: "httpx.Response") -> float | None:
    """Return the seconds in the header Retry-After. The other form of that header, a date, is not used."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _error_message(response: "httpx.Response") -> str:
    """Return the first error in the body of a response, such as `: TOOMANYREQUESTS rate exceeded`; or nothing."""
    try:
        first = json.loads(response.read())["errors"][0]
        return f": {first['code']} {first.get('message', '')}".rstrip()
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


def _exception_message(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _repository(path: str) -> str:
    """Return the repository in a path such as `team/image/blobs/sha256:…`."""
    for resource in ("/manifests/", "/blobs/", "/tags/"):
        name, found, _ = path.removeprefix("/v2/").partition(resource)
        if found:
            return name
    return ""


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def is_reachable(host: str) -> bool:
    """Return whether a registry answers at a host, even if it requires a login."""
    import httpx

    try:
        status = httpx.get(
            f"{base_url(host)}/v2/", timeout=_REACHABLE_TIMEOUT, trust_env=not is_loopback(host)
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return status in (200, 401, 403)


def base_url(host: str) -> str:
    """Return the URL of a registry: https, but plain http on loopback, as Docker does."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def is_loopback(host: str) -> bool:
    """Return True for `localhost`, `127.0.0.0/8` and `[::1]`, with or without a port."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
