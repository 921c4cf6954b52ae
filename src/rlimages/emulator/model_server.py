"""A client of a model server."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rlimages.emulator.endpoint_config import PING_TIMEOUT
from rlimages.errors import InvocationError, UnreachableError, UsageError

if TYPE_CHECKING:
    import httpx


_WORDS = 300
"""Characters of an answer that fit into a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What a model server answered."""

    status: int
    body: bytes
    content_type: str
    seconds: float
    retry_after: float | None = None
    """Seconds after which it wants to be asked again, where it says so."""

    @property
    def passed(self) -> bool:
        """True for every 2xx."""
        return 200 <= self.status < 300

    @property
    def sentence(self) -> str:
        """`400 Bad Request: line 3 is no JSON`, with the beginning of what it said."""
        from http import HTTPStatus

        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else ""
        said = " ".join(self.body[: 4 * _WORDS].decode("utf-8", errors="replace").split())
        words = f"{said[:_WORDS]}…" if len(said) > _WORDS else said
        return f"{self.status} {phrase}".rstrip() + (f": {words}" if words else "")


class ModelServer:
    """A model server at an address; many threads may speak to it at once."""

    def __init__(self, address: str, *, timeout: float) -> None:
        """`timeout`: seconds for one answer, from the first byte that is sent to the last that comes."""
        import httpx

        self.address = address
        self._timeout = timeout
        secret = address.startswith("https:")  # else the certificates of the world are read for nothing
        self._client = httpx.Client(base_url=address, timeout=timeout, trust_env=False, verify=secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ping(self) -> str:
        """Why GET /ping did not pass; empty when it did."""
        try:
            answer = self._ask("GET", "/ping")
        except InvocationError as error:
            return str(error)
        return "" if answer.status == 200 else f"GET /ping was answered with {answer.sentence}"

    def execution_parameters(self) -> bytes | None:
        """What it says about batches, as it says it; None where it says nothing. Raises `InvocationError`."""
        answer = self._ask("GET", "/execution-parameters")
        return answer.body if answer.status == 200 else None

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        """POST /invocations. An answer that is no 2xx is an answer; raises `InvocationError` where none comes."""
        headers = {"content-type": content_type} | ({"accept": accept} if accept else {})
        return self._ask("POST", "/invocations", content=body, headers=headers)

    def _ask(self, method: str, path: str, **words: Any) -> Response:
        import httpx

        began = time.monotonic()
        try:
            with self._client.stream(method, path, **words) as response:
                pieces: list[bytes] = []
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    if time.monotonic() - began > self._timeout:
                        raise httpx.ReadTimeout("too slow")
        except httpx.TimeoutException as error:
            raise InvocationError(f"{method} {path} had no answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"nothing answers {method} {path} at {self.address} ({error})") from error
        return Response(
            status=response.status_code,
            body=b"".join(pieces),
            content_type=response.headers.get("content-type", ""),
            seconds=time.monotonic() - began,
            retry_after=_seconds(response.headers),
        )


def ping_server(address: str) -> str:
    """Why an endpoint is not healthy; empty when it is."""
    with ModelServer(address, timeout=PING_TIMEOUT) as server:
        return server.ping()


def resolve_endpoint(word: str | None, running: Mapping[str, str]) -> str:
    """The address that a word means: a URL, `host:port`, a port, the name of an endpoint, or the only one that runs.

    Raises `UsageError` where it means none or several.
    """
    if word is None:
        if len(running) == 1:
            return next(iter(running.values()))
        if running:
            raise UsageError(f"several endpoints run here; say --endpoint with one of {', '.join(running)}")
        raise UsageError("no endpoint runs here; start one with `rlimages serve`, or give an address with --endpoint")
    if word in running:
        return running[word]
    if word.startswith(("http://", "https://")):
        return _sound(word.rstrip("/").removesuffix("/invocations"), word)
    if re.fullmatch(r"\d+", word):
        return _sound(f"http://127.0.0.1:{word}", word)
    if re.fullmatch(r"[^/\s]+:\d+", word):
        return _sound(f"http://{word}", word)
    known = f"of this name, only {', '.join(running)}" if running else "here"
    raise UsageError(f"--endpoint {word}: there is none {known}; it may also be an address or a port")


def _sound(address: str, word: str) -> str:
    import httpx

    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"--endpoint {word}: {error}") from error
    if not url.host or (url.port or 0) > 65535:
        raise UsageError(f"--endpoint {word}: this is no address; write it as http://HOST:PORT")
    return address


def _seconds(headers: "httpx.Headers") -> float | None:
    """Retry-After in seconds; its other form, a date, is for caches that are hours away."""
    said = headers.get("retry-after", "")
    return float(said) if re.fullmatch(r"\d{1,6}", said) else None
