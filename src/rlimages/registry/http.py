"""Send HTTP requests to a registry: log in, repeat requests while it is busy, and report its error messages."""

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
"""Seconds for a registry to answer the request that only finds out whether it can be reached."""


class Login(Protocol):
    """The interface of the objects that make the authorization headers for the requests to a registry."""

    def headers(self, host: str, scope: str) -> Mapping[str, str]:
        """Return the authorization headers for a request to `host`; `scope` is like `repository:<name>:pull,push`."""

    def renew(self, host: str, scope: str, challenge: str) -> bool:
        """Get other credentials for `host` and `scope` after the registry answered 401 or 403.

        `challenge` is the WWW-Authenticate header of the response. Return True if a second attempt may succeed, False
        if there are no other credentials.
        """


class AnonymousLogin:
    """The login for registries without authentication: it adds no headers to requests."""

    def headers(self, _host: str, _scope: str) -> Mapping[str, str]:
        """Return an empty mapping: no authorization header is sent."""
        return {}

    def renew(self, _host: str, _scope: str, _challenge: str) -> bool:
        """Return False: there are no other credentials."""
        return False


class RegistryHttp:
    """The HTTP connection to one registry. May be used by several threads.

    The argument `path` of the methods is relative to `/v2/`, such as `team/image/tags/list`, or an absolute path or URL
    that the registry returned.
    """

    def __init__(self, host: str, *, login: Login | None, counter: RequestCounter | None, patience: float) -> None:
        """Use the registry at `host[:port]`; the first request opens the connection.

        `login` makes the authorization headers; None stands for no authentication. `counter` counts all requests; None
        stands for a new counter. `patience` is the number of seconds for all attempts of one request.
        """
        self.host = host
        self.counter = counter or RequestCounter()
        self._login = login or AnonymousLogin()
        self._patience = patience
        self._open_client: httpx.Client | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Close the connection to the registry. A later request opens a new one."""
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
        """Send a request for `path` and return the response. Its status is one of `expected`, and its body is read.

        `headers` are sent in addition to the login; `content` is the body. The request is repeated while the registry
        is unreachable or answers 429 or 5xx. Raise `RegistryError` for any other status, or if the patience ends.
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
        """Send a request for `path` once; return the response. Its status is one of `expected`, and its body is read.

        `repository` decides the scope of the login. `headers` are sent in addition to it. `content` is the body: bytes,
        an iterator of bytes, or None. Raise `RegistryError` for any other status or an unreachable registry. In a block
        of `attempts`, the error of a busy registry repeats the block.
        """
        with self._send(method, path, _scope(repository), headers or {}, content) as response:
            response.read()
            return self._require_status(response, expected, path)

    @contextmanager
    def stream(self, path: str, repository: str) -> Iterator["httpx.Response"]:
        """Send a GET request for `path` once; yield the response, with status 200, before its body is read.

        `repository` decides the scope of the login. Raise `RegistryError` for any other status.
        """
        with self._send("GET", path, _scope(repository), {}, None) as response:
            yield self._require_status(response, (200,), path)

    def attempts(self) -> Iterator[Any]:
        """Yield one context for each attempt; the caller's `with` block runs in it.

        The iteration ends after a block that succeeds. A block that raises the error of a busy or unreachable registry
        is followed by another attempt, after a wait. Any other error, and any error after the patience, is raised. The
        number of an attempt is its attribute `num`, from 1.
        """
        import stamina
        from stamina.instrumentation import set_on_retry_hooks

        set_on_retry_hooks([])  # stamina logs each retry to standard error, in the middle of the progress display
        first = min(_FIRST_WAIT, self._patience / 20)
        # The jitter keeps the parallel uploads of a release from coming back at the same moment.
        waits = {"wait_initial": first, "wait_jitter": 2 * first}
        return iter(stamina.retry_context(on=self._retry_wait, attempts=None, timeout=self._patience, **waits))

    def _retry_wait(self, error: Exception) -> bool | float:
        """Return the seconds to wait after `error`: what the registry asks for, but no more than the patience.

        Return True for a wait that doubles with each attempt, and False for no further attempt. This is the protocol of
        the retry library, stamina.
        """
        if not isinstance(error, _BusyError):
            return False
        return True if error.wait is None else min(error.wait, self._patience)

    @contextmanager
    def _send(
        self, method: str, path: str, scope: str, headers: Mapping[str, str], content: Any
    ) -> Iterator["httpx.Response"]:
        """Send a request for `path` and yield its response; after 401 or 403, send it once more with new credentials.

        `scope` is that of the login, `headers` are sent in addition to it, and `content` is the body. Raise
        `_BusyError` if the registry cannot be reached, or if a body that is an iterator must be sent again. Raise
        `RegistryError` if the host name is invalid.
        """
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
        """Return `response` if its status is one of `expected`; raise `RegistryError` about `path` for any other.

        For 429 and 5xx, the error is a `_BusyError`, which repeats the request.
        """
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
        """Return the URL for `path`, which is relative to `/v2/`, an absolute path, or a URL already."""
        if path.startswith(("http:", "https:")):
            return path
        return f"{base_url(self.host)}{path if path.startswith('/') else f'/v2/{path}'}"

    def _client(self) -> "httpx.Client":
        """Return the open HTTP client, or open one."""
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
    """The error for a busy or unreachable registry: a later attempt may succeed."""

    def __init__(self, message: str, wait: float | None) -> None:
        """Take the text `message`, and `wait`, the seconds that the registry asks to wait; None if it asks for none."""
        super().__init__(message)
        self.wait = wait


def _retry_after(response: "httpx.Response") -> float | None:
    """Return the seconds in the header Retry-After of `response`; None if it is missing, or is a date."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _error_message(response: "httpx.Response") -> str:
    """Return `: ` and the first error in the body of `response`, such as `TOOMANYREQUESTS rate exceeded`.

    Return an empty string if the body has no error in the format of the registry protocol.
    """
    try:
        first = json.loads(response.read())["errors"][0]
        return f": {first['code']} {first.get('message', '')}".rstrip()
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


def _exception_message(error: Exception) -> str:
    """Return the message of `error` in one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _repository(path: str) -> str:
    """Return the repository in `path`: `team/image` for `team/image/blobs/sha256:…`.

    Return an empty string if `path` names none.
    """
    for resource in ("/manifests/", "/blobs/", "/tags/"):
        name, found, _ = path.removeprefix("/v2/").partition(resource)
        if found:
            return name
    return ""


def _scope(repository: str) -> str:
    """Return the scope that a bearer token needs for reading and writing `repository`."""
    return f"repository:{repository}:pull,push"


def is_reachable(host: str) -> bool:
    """Return whether a registry answers at `host[:port]` within five seconds, also if it requires a login."""
    import httpx

    try:
        status = httpx.get(
            f"{base_url(host)}/v2/", timeout=_REACHABLE_TIMEOUT, trust_env=not is_loopback(host)
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return status in (200, 401, 403)


def base_url(host: str) -> str:
    """Return the URL of the registry at `host[:port]`: https, but plain http on loopback, as Docker does."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def is_loopback(host: str) -> bool:
    """Return True if `host` is `localhost`, in `127.0.0.0/8`, or `[::1]`, with or without a port."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
