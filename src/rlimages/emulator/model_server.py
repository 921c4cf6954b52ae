"""An HTTP client of a model server, for GET /ping, GET /execution-parameters and POST /invocations."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rlimages.emulator.endpoint import PING_TIMEOUT
from rlimages.errors import InvocationError, UnreachableError

_QUOTED_CHARACTERS = 300
"""Largest number of characters of a response's body that are quoted in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """The response of a model server to one request."""

    status: int
    """The HTTP status code."""
    body: bytes
    content_type: str
    """The header Content-Type; empty if it is missing."""
    seconds: float
    """Seconds from the start of the request to the last byte of the response."""
    retry_after: float | None = None
    """Seconds in the header Retry-After; None if it is missing or is a date."""

    @property
    def passed(self) -> bool:
        """True if the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def summary(self) -> str:
        """The status and the beginning of the body: `400 Bad Request: line 3 is not JSON`."""
        from http import HTTPStatus

        phrase = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else ""
        # a character has at most four bytes in UTF-8
        text = " ".join(self.body[: 4 * _QUOTED_CHARACTERS].decode("utf-8", errors="replace").split())
        quoted = f"{text[:_QUOTED_CHARACTERS]}…" if len(text) > _QUOTED_CHARACTERS else text
        return f"{self.status} {phrase}".rstrip() + (f": {quoted}" if quoted else "")


class ModelServer:
    """A client of one model server. Several threads may use it at the same time.

    As a context manager it closes its connections at the end of the block.
    """

    def __init__(self, address: str, *, timeout: float) -> None:
        """Prepare requests to `address`, a URL such as `http://127.0.0.1:8080`.

        `timeout` is the limit in seconds of one request, from its first byte to the last of the response.
        """
        import httpx

        self.address = address
        self._timeout = timeout
        # Without HTTPS, do not load the certificate authorities, which is slow. No proxy of the environment is used.
        is_https = address.startswith("https:")
        self._client = httpx.Client(base_url=address, timeout=timeout, trust_env=False, verify=is_https)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def ping(self) -> str:
        """Send GET /ping. Returns an empty string if the status is 200, as SageMaker requires, else what is wrong.

        A missing answer is also a problem, not an exception.
        """
        try:
            response = self._send("GET", "/ping")
        except InvocationError as error:
            return str(error)
        return "" if response.status == 200 else f"GET /ping was answered with {response.summary}"

    def execution_parameters(self) -> bytes | None:
        """Send GET /execution-parameters. Returns the body; None if the status is not 200, as it is optional.

        Raises `InvocationError` if there is no answer within the time limit.
        """
        response = self._send("GET", "/execution-parameters")
        return response.body if response.status == 200 else None

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        """Send `body` with POST /invocations and return the response, whatever its status.

        `content_type` and `accept` are the headers Content-Type and Accept; None sends no Accept. Raises
        `UnreachableError` if no server answers, and `InvocationError` if the response takes longer than the time limit.
        """
        headers = {"content-type": content_type} | ({"accept": accept} if accept else {})
        return self._send("POST", "/invocations", content=body, headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> Response:
        """Send a request with the options of httpx, and return the complete response.

        Raises errors as `invoke` does.
        """
        import httpx

        started = time.monotonic()
        try:
            with self._client.stream(method, path, **options) as response:
                chunks: list[bytes] = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    # httpx limits the time between two chunks only, SageMaker that of the whole response
                    if time.monotonic() - started > self._timeout:
                        raise httpx.ReadTimeout("the response took too long")
        except httpx.TimeoutException as error:
            raise InvocationError(f"{method} {path} had no answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"nothing answers {method} {path} at {self.address} ({error})") from error
        return Response(
            status=response.status_code,
            body=b"".join(chunks),
            content_type=response.headers.get("content-type", ""),
            seconds=time.monotonic() - started,
            retry_after=_retry_seconds(response.headers),
        )


def ping_server(address: str) -> str:
    """Send GET /ping to the server at `address`, with SageMaker's time limit of two seconds.

    Returns an empty string if the server is healthy, else one sentence about the problem.
    """
    with ModelServer(address, timeout=PING_TIMEOUT) as server:
        return server.ping()


def _retry_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in the header Retry-After; None if it is missing or is a date, its other form."""
    value = headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"\d{1,6}", value) else None
