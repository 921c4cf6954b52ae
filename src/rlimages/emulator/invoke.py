"""`rlimages invoke`: send a request to an endpoint, with the limits of SageMaker's InvokeEndpoint."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlimages.emulator.containers import running_endpoints
from rlimages.emulator.endpoint import INVOCATION_TIMEOUT, MAX_PAYLOAD
from rlimages.emulator.model_server import ModelServer, Response
from rlimages.engine.docker import DockerEngine
from rlimages.errors import JobError, ToolError, UsageError
from rlimages.system.process import Stop


def read_body(file: Path) -> bytes:
    """Return the content of `file`, which becomes the body of a request. Raises `JobError` if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise JobError(f"{file} cannot be read: {error.strerror}") from error


def invoke_endpoint(
    argument: str | None, body: bytes, *, content_type: str, accept: str | None
) -> tuple[str, Response]:
    """Send `body` with POST /invocations to the endpoint that `argument` names. Returns its URL and the response.

    `argument` is the value of `--endpoint`, as in `resolve_endpoint`. `content_type` and `accept` are headers of the
    request; None sends no Accept. Raises `UsageError` if the body is larger than `MAX_PAYLOAD` or the argument names no
    endpoint, `ToolError` if the running endpoints cannot be listed, and `InvocationError` if there is no response.
    """
    if len(body) > MAX_PAYLOAD:
        raise UsageError(
            f"the request has {len(body)} bytes; SageMaker allows {MAX_PAYLOAD} (rlimages transform allows more)"
        )
    address = resolve_endpoint(argument, _list_endpoints(argument))
    with ModelServer(address, timeout=INVOCATION_TIMEOUT) as server:
        return address, server.invoke(body, content_type=content_type, accept=accept)


def resolve_endpoint(argument: str | None, running: Mapping[str, str]) -> str:
    """Return the URL of the endpoint that `argument`, the value of `--endpoint`, names.

    The argument is the name of a running endpoint, a URL, `host:port`, or a port of this machine; None stands for the
    only running endpoint. `running` is name -> URL of the running endpoints. Raises `UsageError` if the argument is
    none of these, or is None while no endpoint or several are running.
    """
    if argument is None:
        if len(running) == 1:
            return next(iter(running.values()))
        if running:
            raise UsageError(f"several endpoints are running; choose one with --endpoint: {', '.join(running)}")
        raise UsageError("no endpoint is running; start one with `rlimages serve`, or give an address with --endpoint")
    if argument in running:
        return running[argument]
    if argument.startswith(("http://", "https://")):
        # `rlimages serve` prints a curl command with the URL of /invocations, which may be pasted here.
        return _check_address(argument.rstrip("/").removesuffix("/invocations"), argument)
    if re.fullmatch(r"\d+", argument):
        return _check_address(f"http://127.0.0.1:{argument}", argument)
    if re.fullmatch(r"[^/\s]+:\d+", argument):
        return _check_address(f"http://{argument}", argument)
    known = f"running: {', '.join(running)}" if running else "none is running"
    raise UsageError(f"--endpoint {argument}: no endpoint has this name ({known}); give a name, a port or an address")


def response_facts(address: str, response: Response) -> dict[str, Any]:
    """Return the JSON object of `rlimages invoke --json`: the endpoint's URL `address`, and the facts of `response`.

    Bytes of the body that are not UTF-8 are replaced.
    """
    return {
        "address": address,
        "status": response.status,
        "content_type": response.content_type,
        "body": response.body.decode("utf-8", errors="replace"),
        "seconds": round(response.seconds, 3),
    }


def _check_address(address: str, argument: str) -> str:
    """Return the URL `address`. Raises `UsageError`, which quotes the user's `argument`, if it is not valid."""
    import httpx

    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"--endpoint {argument}: {error}") from error
    if not url.host or (url.port or 0) > 65535:
        raise UsageError(f"--endpoint {argument}: not a valid address; write it as http://HOST:PORT")
    return address


def _list_endpoints(argument: str | None) -> Mapping[str, str]:
    """Return name -> URL of the running endpoints.

    The mapping is empty if `argument` is a URL, `host:port` or a port, which needs no Docker engine. Raises `ToolError`
    if the engine does not answer.
    """
    if argument is not None and (":" in argument or argument.isdecimal()):
        return {}
    engine = DockerEngine(run="invoke", stop=Stop())
    try:
        return running_endpoints(engine)
    except ToolError as error:
        raise ToolError(f"{error}; or give an address with --endpoint") from error
    finally:
        engine.close()
