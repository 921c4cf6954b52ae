"""HTTP requests to a registry: retries, rate limits, and a count of requests against ECR's quotas."""

import ipaddress
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from rlimages.errors import RegistryError

if TYPE_CHECKING:
    import httpx


QUOTAS: Mapping[str, int] = {
    "BatchCheckLayerAvailability": 1000,
    "BatchGetImage": 2000,
    "CompleteLayerUpload": 100,
    "GetAuthorizationToken": 500,
    "GetDownloadUrlForLayer": 3000,
    "InitiateLayerUpload": 100,
    "PutImage": 10,
    "UploadLayerPart": 500,
}
"""Calls a second that ECR allows an account in a region: the defaults of its service quotas."""
_CALLS = {
    ("HEAD", "blobs"): "BatchCheckLayerAvailability",
    ("GET", "blobs"): "GetDownloadUrlForLayer",
    ("POST", "uploads"): "InitiateLayerUpload",
    ("PATCH", "uploads"): "UploadLayerPart",
    ("PUT", "uploads"): "CompleteLayerUpload",
    ("GET", "manifests"): "BatchGetImage",
    ("HEAD", "manifests"): "BatchGetImage",
    ("PUT", "manifests"): "PutImage",
    ("DELETE", "manifests"): "BatchDeleteImage",
    ("GET", "tags"): "ListImages",
}


class RequestCounter:
    """Counts for one registry. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.bytes = 0
        """Of blobs, sent."""

    def counted(self, method: str, path: str) -> None:
        """One request of the distribution protocol."""
        parts = path.split("/")
        kind = next((word for word in ("uploads", "blobs", "manifests", "tags") if word in parts), "")
        self.called(_CALLS.get((method, kind), f"{method} {kind or path}"))

    def called(self, name: str) -> None:
        """One call of ECR's API by its name."""
        with self._lock:
            self._calls[name] += 1

    def uploaded(self, digest: str, size: int) -> None:
        """A blob has travelled."""
        with self._lock:
            self._uploads[digest] += 1
            self.bytes += size

    @property
    def calls(self) -> Mapping[str, int]:
        """Name of ECR's API call -> how often, the most frequent first."""
        with self._lock:
            return dict(self._calls.most_common())

    @property
    def uploads(self) -> Mapping[str, int]:
        """Digest -> how often its bytes have travelled: once, or something is wrong."""
        with self._lock:
            return dict(self._uploads)


PATIENCE = 10.0
"""Seconds for all attempts of one question: a run that is being stopped must not wait longer."""
_FIRST_WAIT = 0.1
"""Seconds before the second attempt, doubled before each further one; less where there is little patience."""
_TIMEOUT = 30.0
"""Seconds for a registry to say or take the next bytes."""


class Login(Protocol):
    """Who we are to registries."""

    def headers(self, host: str, scope: str) -> Mapping[str, str]:
        """What to send with a request to do `repository:<name>:pull,push`."""

    def refused(self, host: str, scope: str, challenge: str) -> bool:
        """Hear of a 401 or 403 and its WWW-Authenticate header; True when it is worth asking once more."""


class AnonymousLogin:
    """For registries that ask nothing."""

    def headers(self, _host: str, _scope: str) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def refused(self, _host: str, _scope: str, _challenge: str) -> bool:
        """There is nobody else to be."""
        return False


class RegistryHttp:
    """The line to one registry. May be used by several threads."""

    def __init__(self, host: str, *, login: Login | None, meter: RequestCounter | None, patience: float) -> None:
        """`host[:port]`; `meter` counts each request."""
        self.host = host
        self.meter = meter or RequestCounter()
        self._login = login or AnonymousLogin()
        self._patience = patience
        self._open: httpx.Client | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Hang up; who asks again is connected again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open = None

    def once(
        self,
        method: str,
        path: str,
        repository: str,
        takes: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: Any = None,
    ) -> "httpx.Response":
        """One answer to one request, whose status must be one of `takes`; a body may be an iterator of bytes."""
        with self._sent(method, path, _scope(repository), headers or {}, content) as answer:
            answer.read()
            return self._insist(answer, takes, path)

    @contextmanager
    def opened(self, path: str, repository: str) -> Iterator["httpx.Response"]:
        """What is there, to be read piece by piece."""
        with self._sent("GET", path, _scope(repository), {}, None) as answer:
            yield self._insist(answer, (200,), path)

    def ask(
        self,
        method: str,
        path: str,
        *,
        takes: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> "httpx.Response":
        """One answer, asked for again while the registry is busy or unreachable."""
        for attempt in self.attempts():
            with attempt, self._sent(method, path, _scope(_repository(path)), headers or {}, content) as answer:
                answer.read()
                return self._insist(answer, takes, path)
        raise AssertionError("the last attempt raises")

    def attempts(self) -> Iterator[Any]:
        """What is tried in `with` blocks until it passes: again while the registry is busy and patience lasts."""
        import stamina
        from stamina.instrumentation import set_on_retry_hooks

        set_on_retry_hooks([])  # it would log into the progress view; the report says what came of it
        first = min(_FIRST_WAIT, self._patience / 20)
        waits = {"wait_initial": first, "wait_jitter": 2 * first}
        return iter(stamina.retry_context(on=self._worth_waiting, attempts=None, timeout=self._patience, **waits))

    def _worth_waiting(self, error: Exception) -> bool | float:
        """As long as the registry asks for, but no longer than there is patience."""
        if not isinstance(error, _BusyError):
            return False
        return True if error.wait is None else min(error.wait, self._patience)

    @contextmanager
    def _sent(
        self, method: str, path: str, scope: str, headers: Mapping[str, str], content: Any
    ) -> Iterator["httpx.Response"]:
        """One request, and once more when the registry wanted to know who we are. A body that streams goes once."""
        import httpx

        client, url = self._client(), self._url(path)
        own = urlsplit(url).netloc == self.host
        try:
            for last in (False, True):
                known = self._login.headers(self.host, scope) if own else {}
                self.meter.counted(method, urlsplit(url).path)
                with client.stream(method, url, headers={**headers, **known}, content=content) as answer:
                    unwanted = answer.status_code in (401, 403) and own and not last
                    if unwanted and self._login.refused(self.host, scope, answer.headers.get("www-authenticate", "")):
                        if isinstance(content, bytes | None):
                            continue
                        raise _BusyError(f"{self.host} wanted a new login in the middle of an upload", 0.0)
                    yield answer
                    return
        except (httpx.TransportError, httpx.StreamError) as error:
            hint = "is it running?" if is_loopback(self.host) else "check the name, the network and the proxy"
            raise _BusyError(
                f"cannot reach the registry {self.host} ({_exception_message(error)}); {hint}", None
            ) from error
        except httpx.InvalidURL as error:
            raise RegistryError(f"cannot reach the registry {self.host} ({error}); check the name") from error

    def _insist(self, answer: "httpx.Response", takes: tuple[int, ...], path: str) -> "httpx.Response":
        """The answer, if it is one of those that mean something here."""
        status = answer.status_code
        if status in takes:
            return answer
        what = f"{answer.request.method} {urlsplit(path).path}"
        said = _error_message(answer)
        if status == 429 or status >= 500:
            raise _BusyError(f"{self.host} answered {status} to {what}{said}; try again later", _retry_after(answer))
        if status in (401, 403):
            raise RegistryError(
                f"{self.host} wants a login for {what} ({status}){said}; try `docker login {self.host}`"
            )
        raise RegistryError(f"{self.host} answered {status} to {what}{said}")

    def _url(self, path: str) -> str:
        if path.startswith(("http:", "https:")):
            return path
        return f"{base_url(self.host)}{path if path.startswith('/') else f'/v2/{path}'}"

    def _client(self) -> "httpx.Client":
        import httpx

        with self._lock:
            if self._open is None:
                near = is_loopback(self.host)  # plain http: no certificates to load, no proxy to ask
                self._open = httpx.Client(timeout=_TIMEOUT, verify=not near, trust_env=not near, follow_redirects=True)
            return self._open


class _BusyError(RegistryError):
    """What may pass by itself."""

    def __init__(self, message: str, wait: float | None) -> None:
        """`wait`: seconds that the registry asks for; None where it says nothing."""
        super().__init__(message)
        self.wait = wait


def _retry_after(answer: "httpx.Response") -> float | None:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdigit() else None


def _error_message(answer: "httpx.Response") -> str:
    """What the registry has against it, in its own words: `: TOOMANYREQUESTS rate exceeded`."""
    try:
        first = json.loads(answer.read())["errors"][0]
        return f": {first['code']} {first.get('message', '')}".rstrip()
    except (ValueError, KeyError, TypeError, IndexError):
        return ""


def _exception_message(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _repository(path: str) -> str:
    """The repository of a path like `team/image/blobs/sha256:…`."""
    for word in ("/manifests/", "/blobs/", "/tags/"):
        name, found, _ = path.removeprefix("/v2/").partition(word)
        if found:
            return name
    return ""


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def is_reachable(host: str) -> bool:
    """True when a registry is there, whatever it thinks of us."""
    import httpx

    try:
        status = httpx.get(f"{base_url(host)}/v2/", timeout=5.0, trust_env=not is_loopback(host)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return status in (200, 401, 403)


def base_url(host: str) -> str:
    """Where a registry listens. Loopback speaks plain http, as Docker assumes too."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def is_loopback(host: str) -> bool:
    """True for `localhost`, `127.0.0.0/8` and `[::1]`, with or without a port."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
