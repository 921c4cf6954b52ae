"""Send the files of a batch transform job to a model server, and write the outputs."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rlimages.emulator.batch import (
    MEGABYTE,
    BatchSettings,
    RecordTooLarge,
    Request,
    TransformedFile,
    assemble_response,
    split_requests,
)
from rlimages.emulator.invoke import Response
from rlimages.errors import FactoryError, InvocationError, JobError, UnreachableError
from rlimages.system.process import Stop

BUSY_STATUSES = (429, 502, 503, 504)
"""Answers after which the same request may pass a little later."""
REPORT_SECONDS = 30.0
"""Seconds between two notes of how far a long file is."""
_AHEAD = 3
"""Requests that are read ahead, for each that may be open."""
_LONGEST = 10.0
"""Seconds that a Retry-After may make us wait."""


class TransformServer(Protocol):
    """What is asked of a model server. A test is another one."""

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Response:
        """One request; raises `InvocationError` where no answer comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One file of the input."""

    path: Path
    name: str
    """Below the input folder."""
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What a job wants of its answers."""

    accept: str | None = None
    by_line: bool = False
    """AssembleWith is Line."""
    retries: int = 3
    """InvocationsMaxRetries."""


def input_files(folder: Path, content_type: Callable[[str], str]) -> tuple[InputFile, ...]:
    """The files of a folder and of those below it, or the one file, by name. Raises `JobError` when there is none."""
    if folder.is_file():
        found = [(folder, folder.name)]
    else:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = [(path, path.relative_to(folder).as_posix()) for path in files]
    if not found:
        raise JobError(f"{folder} has no file to transform")
    return tuple(InputFile(path=path, name=name, content_type=content_type(name)) for path, name in found)


def clear_outputs(files: Sequence[InputFile], output: Path) -> None:
    """Take away what an older job made of these files: what failed now must not look as if it had passed.

    Raises `FactoryError` when the folder can't be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for source in files:
            _target(source, output).unlink(missing_ok=True)
            _part(source, output).unlink(missing_ok=True)
        (probe := output / ".rlimages").touch()
        probe.unlink()
    except OSError as error:
        raise FactoryError(f"cannot write to {error.filename or output}: {error.strerror}") from error


def run_transform(
    files: Sequence[InputFile],
    server: TransformServer,
    output: Path,
    *,
    how: BatchSettings,
    wanted: OutputOptions,
    stop: Stop,
    on_file: Callable[[TransformedFile], None],
    on_note: Callable[[str], None],
) -> None:
    """Make `<name>.out` of every file; `on_file` hears how each went. A file that fails leaves none, and others go on.

    An output has its own name only when it is whole. Raises `FactoryError` when it can't be written.
    """
    with ThreadPoolExecutor(how.concurrent) as pool:
        open_files: dict[str, _Output] = {}
        waiting: deque[tuple[InputFile, Request | None, Future[Response] | None]] = deque()

        told = time.monotonic()

        def answer_first() -> None:
            nonlocal told
            source, request, future = waiting.popleft()
            made = open_files[source.name]
            if request is None:
                on_file(open_files.pop(source.name).close())
            elif future is not None and not made.reason:
                made.add(request, future)
                if time.monotonic() - told > REPORT_SECONDS:
                    told = time.monotonic()
                    on_note(f"{source.name}: {made.records} records so far")

        try:
            for source, request in _all_requests(files, open_files, output, how, wanted):
                if stop.is_set():
                    break
                future = pool.submit(_invoke, server, source, request, wanted, stop) if request else None
                waiting.append((source, request, future))
                while len(waiting) > _AHEAD * how.concurrent:
                    answer_first()
            while waiting and not stop.is_set():
                answer_first()
        except OSError as error:
            raise FactoryError(f"cannot write to {error.filename or output}: {error.strerror}") from error
        finally:
            for _, _, future in waiting:
                if future is not None:
                    future.cancel()
            for made in open_files.values():
                made.abandon()


class _Output:
    """One output file as it grows, under a name of its own until it is whole."""

    def __init__(self, source: InputFile, output: Path, wanted: OutputOptions) -> None:
        self.reason = ""
        """Why it will not be; empty while all is well."""
        self.records = 0
        """How many are in it."""
        self._source = source
        self._wanted = wanted
        self._target = _target(source, output)
        self._part = _part(source, output)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        self._began = time.monotonic()

    def add(self, request: Request, future: "Future[Response]") -> None:
        """Append an answer, or learn why there is none."""
        try:
            answer = future.result()
        except InvocationError as error:
            self.reason = f"{self._source.name}{request.place}: {error}"
            return
        if not answer.passed:
            self.reason = f"{self._source.name}{request.place}: {answer.sentence}"
            return
        self._file.write(assemble_response(answer.body, by_line=self._wanted.by_line))
        self.records += request.records

    def close(self) -> TransformedFile:
        """Give it its name, or take it away when it failed."""
        if self.reason:
            self.abandon()
        else:
            self._file.close()
            self._part.replace(self._target)
        seconds = time.monotonic() - self._began
        made = "" if self.reason else str(self._target)
        return TransformedFile(
            name=self._source.name, output=made, reason=self.reason, records=self.records, seconds=seconds
        )

    def abandon(self) -> None:
        """Take it away."""
        with suppress(OSError):  # a full disk may have bytes that can't be flushed any more
            self._file.close()
        self._part.unlink(missing_ok=True)


def _all_requests(
    files: Sequence[InputFile], open_files: dict[str, _Output], output: Path, how: BatchSettings, wanted: OutputOptions
) -> Iterator[tuple[InputFile, Request | None]]:
    """The requests of all files, each file's followed by None. Of a file that has failed no more are made."""
    for source in files:
        made = open_files[source.name] = _Output(source, output, wanted)
        try:
            with source.path.open("rb") as file:
                for request in _until_failed(file, how, made):
                    yield source, request
        except RecordTooLarge as error:
            limit = how.payload // MEGABYTE
            made.reason = f"{source.name}{error}: it is larger than MaxPayloadInMB allows, {limit}"
        except OSError as error:
            made.reason = f"{source.name}: it cannot be read: {error.strerror}"
        yield source, None


def _until_failed(file: BinaryIO, how: BatchSettings, made: _Output) -> Iterator[Request]:
    for request in split_requests(file, how):
        if made.reason:
            return
        yield request


class _ServerBusy(Exception):
    """An answer that may be another a little later."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.sentence)
        self.answer = answer


def _invoke(
    server: TransformServer, source: InputFile, request: Request, wanted: OutputOptions, stop: Stop
) -> Response:
    """One request, asked again while the server is busy, when it wants to be asked or after 0.1 s, 0.2 s and so on."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])  # the result says what came of it

    def again(error: Exception) -> bool | float:
        if stop.is_set() or not isinstance(error, _ServerBusy | UnreachableError):
            return False
        wait = error.answer.retry_after if isinstance(error, _ServerBusy) else None
        return True if wait is None else min(wait, _LONGEST)

    try:
        for attempt in stamina.retry_context(on=again, attempts=wanted.retries + 1, timeout=None, wait_jitter=0.1):
            with attempt:
                answer = server.invoke(request.body, content_type=source.content_type, accept=wanted.accept)
                if answer.status in BUSY_STATUSES:
                    raise _ServerBusy(answer)
    except _ServerBusy as error:
        return error.answer
    return answer


def _target(source: InputFile, output: Path) -> Path:
    return output / f"{source.name}.out"


def _part(source: InputFile, output: Path) -> Path:
    target = _target(source, output)
    return target.with_name(f".{target.name}.part")
