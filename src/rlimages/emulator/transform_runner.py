"""Send the input files of a batch transform job to a model server, and write the responses to output files."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rlimages.emulator.model_server import Response
from rlimages.emulator.transform_job import (
    MEGABYTE,
    RecordTooLargeError,
    RequestSettings,
    TransformedFile,
    TransformRequest,
    assemble_response,
    split_requests,
)
from rlimages.errors import FactoryError, InvocationError, JobError, UnreachableError
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

RETRY_STATUSES = (429, 502, 503, 504)
"""Status codes after which the request is sent again. The server is busy or restarts, and may soon answer."""
PROGRESS_SECONDS = 30.0
"""Shortest time in seconds between two notes about the progress of a job."""
_REQUESTS_AHEAD = 3
"""Number of requests that are read ahead for each request that may be open, so that no thread waits for the disk."""
_MAX_RETRY_WAIT = 10.0
"""Longest wait in seconds before a request is sent again, even if Retry-After asks for more."""


class TransformServer(Protocol):
    """The part of a `ModelServer` that `run_transform` uses; tests implement it with a fake."""

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        """Send `body` with POST /invocations and return the response, whatever its status.

        `content_type` and `accept` are the headers Content-Type and Accept. Raises `InvocationError` if there is no
        response.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One input file of a batch transform job."""

    path: Path
    name: str
    """Path relative to the input folder, with `/` between folders."""
    content_type: str
    """Header Content-Type of the file's requests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """The settings of a job for its responses, as the user gave them."""

    accept: str | None = None
    """Header Accept of the requests; None to send none."""
    end_lines: bool = False
    """True if AssembleWith is Line: each response ends with a newline in the output."""
    retries: int = 3
    """InvocationsMaxRetries: how many times a request is sent again at most."""


def input_files(source: Path, content_type: Callable[[str], str]) -> tuple[InputFile, ...]:
    """Return the files in the folder `source` and its subfolders, sorted by path, or the one file `source`.

    `content_type` is a function that returns the content type for the name of a file. Raises `JobError` if there is no
    file.
    """
    if source.is_file():
        found = [(source, source.name)]
    else:
        files = sorted(path for path in source.rglob("*") if path.is_file())
        found = [(path, path.relative_to(source).as_posix()) for path in files]
    if not found:
        raise JobError(f"{source} has no files to transform")
    return tuple(InputFile(path=path, name=name, content_type=content_type(name)) for path, name in found)


def clear_outputs(files: Sequence[InputFile], output: Path) -> None:
    """Remove the outputs of an older job for `files` from the folder `output`. Create the folder if it is missing.

    Without the removal, a file that fails now would still have the output of the older job. Raises `FactoryError` if
    the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for file in files:
            _output_path(file, output).unlink(missing_ok=True)
            _partial_path(file, output).unlink(missing_ok=True)
        # A read-only folder that exists passes `mkdir`; only a new file shows that it can be written.
        (probe := output / ".rlimages").touch()
        probe.unlink()
    except OSError as error:
        raise FactoryError(f"cannot write to {error.filename or output}: {error.strerror}") from error


def run_transform(
    files: Sequence[InputFile],
    server: TransformServer,
    output: Path,
    *,
    settings: RequestSettings,
    options: OutputOptions,
    context: RunContext,
    on_file: Callable[[TransformedFile], None],
) -> None:
    """Send all `files` to `server`, and write the responses of each file to `<name>.out` in the folder `output`.

    `on_file` gets the outcome of each file as soon as it is known. A file that fails leaves no output, and the other
    files continue. An output gets its name only when it is complete. The function ends early when `context.stop` is
    set. Raises `FactoryError` if an output cannot be written.
    """
    with ThreadPoolExecutor(settings.max_concurrent) as pool:
        outputs: dict[str, _OutputFile] = {}
        """Name of each file that is not finished -> its output."""
        queue: deque[tuple[InputFile, TransformRequest | None, Future[Response] | None]] = deque()
        """Requests in the order of their records, with their future responses; None ends a file."""
        noted = time.monotonic()

        def finish_first() -> None:
            """Wait for the oldest request and write its response, so that the outputs keep the order of the records."""
            nonlocal noted
            file, request, future = queue.popleft()
            transformed = outputs[file.name]
            if request is None:
                on_file(outputs.pop(file.name).close())
            elif future is not None and not transformed.reason:
                transformed.add(request, future)
                if time.monotonic() - noted > PROGRESS_SECONDS:
                    noted = time.monotonic()
                    context.note(f"{file.name}: {format_count(transformed.records, 'record')} so far")

        try:
            for file, request in _all_requests(files, outputs, output, settings, options):
                if context.stop.is_set():
                    break
                future = pool.submit(_invoke, server, file, request, options, context.stop) if request else None
                queue.append((file, request, future))
                while len(queue) > _REQUESTS_AHEAD * settings.max_concurrent:
                    finish_first()
            while queue and not context.stop.is_set():
                finish_first()
        except OSError as error:
            raise FactoryError(f"cannot write to {error.filename or output}: {error.strerror}") from error
        finally:
            for _, _, future in queue:
                if future is not None:
                    future.cancel()
            for transformed in outputs.values():
                transformed.discard()


def format_count(number: int, noun: str) -> str:
    """Return the text for a number of things: `1 record`, `2 records`. `noun` is the singular."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _OutputFile:
    """The output file of one input file. It has a hidden temporary name until it is complete."""

    def __init__(self, file: InputFile, output: Path, options: OutputOptions) -> None:
        """Create the temporary file for the responses to `file` in the folder `output`."""
        self.reason = ""
        """Why the file has failed, in one sentence; empty if it has not failed."""
        self.records = 0
        """Number of records whose responses are written."""
        self._input = file
        self._options = options
        self._path = _output_path(file, output)
        self._partial = _partial_path(file, output)
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb")
        self._started = time.monotonic()

    def add(self, request: TransformRequest, future: "Future[Response]") -> None:
        """Wait for the response to `request`, which `future` returns, and append it to the output.

        If there is no response, or its status is not 2xx, nothing is appended and `reason` is set.
        """
        try:
            response = future.result()
        except InvocationError as error:
            self.reason = f"{self._input.name}{request.location}: {error}"
            return
        if not response.passed:
            self.reason = f"{self._input.name}{request.location}: {response.summary}"
            return
        self._file.write(assemble_response(response.body, end_lines=self._options.end_lines))
        self.records += request.records

    def close(self) -> TransformedFile:
        """Rename the output to its own name, or remove it if the file has failed. Returns the outcome of the file."""
        if self.reason:
            self.discard()
        else:
            self._file.close()
            self._partial.replace(self._path)
        return TransformedFile(
            name=self._input.name,
            output="" if self.reason else str(self._path),
            reason=self.reason,
            records=self.records,
            seconds=time.monotonic() - self._started,
        )

    def discard(self) -> None:
        """Close and remove the temporary file."""
        with suppress(OSError):  # closing flushes, which fails on a full disk
            self._file.close()
        self._partial.unlink(missing_ok=True)


def _all_requests(
    files: Sequence[InputFile],
    outputs: dict[str, _OutputFile],
    output: Path,
    settings: RequestSettings,
    options: OutputOptions,
) -> Iterator[tuple[InputFile, TransformRequest | None]]:
    """Yield each input file together with each of its requests, and then once together with None.

    Before the requests of a file, its output file in the folder `output` is created and added to `outputs` under the
    file's name. After a file has failed, or cannot be read, no more of its requests are yielded.
    """
    for file in files:
        transformed = outputs[file.name] = _OutputFile(file, output, options)
        try:
            with file.path.open("rb") as content:
                for request in _requests_until_failure(content, settings, transformed):
                    yield file, request
        except RecordTooLargeError as error:
            limit = settings.max_bytes // MEGABYTE
            transformed.reason = f"{file.name}{error}: the record is larger than MaxPayloadInMB, {limit} MB"
        except OSError as error:
            transformed.reason = f"{file.name}: cannot be read: {error.strerror}"
        yield file, None


def _requests_until_failure(
    content: BinaryIO, settings: RequestSettings, transformed: _OutputFile
) -> Iterator[TransformRequest]:
    """Yield the requests for `content`; end early once the input file, whose output is `transformed`, has failed."""
    for request in split_requests(content, settings):
        if transformed.reason:
            return
        yield request


class _ServerBusyError(Exception):
    """The server answered with one of `RETRY_STATUSES`."""

    def __init__(self, response: Response) -> None:
        """Keep `response`, whose summary is the text of the error."""
        super().__init__(response.summary)
        self.response = response


def _invoke(
    server: TransformServer, file: InputFile, request: TransformRequest, options: OutputOptions, stop: Stop
) -> Response:
    """Send `request` to `server`, and send it again while the server is busy or unreachable. Returns the last response.

    `options.retries` is the largest number of repetitions; none follows when `stop` is set. The waits are those of
    Retry-After, or else 0.1 s, 0.2 s, 0.4 s and so on. A request that ran into its time limit is not repeated. Raises
    `InvocationError` if there is no response.
    """
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])  # stamina logs every retry by default

    def retry_wait(error: Exception) -> bool | float:
        """Return False to give up after `error`, True to wait for stamina's own time, or the seconds to wait."""
        if stop.is_set() or not isinstance(error, _ServerBusyError | UnreachableError):
            return False
        wait = error.response.retry_after if isinstance(error, _ServerBusyError) else None
        return True if wait is None else min(wait, _MAX_RETRY_WAIT)

    try:
        # The first request counts as an attempt.
        for attempt in stamina.retry_context(
            on=retry_wait, attempts=options.retries + 1, timeout=None, wait_jitter=0.1
        ):
            with attempt:
                response = server.invoke(request.body, content_type=file.content_type, accept=options.accept)
                if response.status in RETRY_STATUSES:
                    raise _ServerBusyError(response)
    except _ServerBusyError as error:
        return error.response
    return response


def _output_path(file: InputFile, output: Path) -> Path:
    """Return the path of the complete output of `file` in the folder `output`."""
    return output / f"{file.name}.out"


def _partial_path(file: InputFile, output: Path) -> Path:
    """Return the path of the incomplete output of `file` in the folder `output`."""
    path = _output_path(file, output)
    return path.with_name(f".{path.name}.part")
