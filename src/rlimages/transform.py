"""Transform files with a model server, as a batch transform job does: several requests at once, answers in order."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rlimages import batch
from rlimages.batch import Decided, Request
from rlimages.errors import FactoryError, InvocationError, JobError, UnreachableError
from rlimages.invocation import Answer
from rlimages.job_results import TransformedFile
from rlimages.shell import Stop

BUSY = (429, 502, 503, 504)
"""Answers after which the same request may pass a little later."""
NEWS = 30.0
"""Seconds between two notes of how far a long file is."""
_AHEAD = 3
"""Requests that are read ahead, for each that may be open."""
_LONGEST = 10.0
"""Seconds that a Retry-After may make us wait."""


class Server(Protocol):
    """What is asked of a model server. A test is another one."""

    def invoke(self, body: bytes, *, content_type: str, accept: str | None = None) -> Answer:
        """One request; raises `InvocationError` where no answer comes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file of the input."""

    path: Path
    name: str
    """Below the input folder."""
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a job wants of its answers."""

    accept: str | None = None
    by_line: bool = False
    """AssembleWith is Line."""
    retries: int = 3
    """InvocationsMaxRetries."""


def sources(folder: Path, content_type: Callable[[str], str]) -> tuple[Source, ...]:
    """The files of a folder and of those below it, or the one file, by name. Raises `JobError` when there is none."""
    if folder.is_file():
        found = [(folder, folder.name)]
    else:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = [(path, path.relative_to(folder).as_posix()) for path in files]
    if not found:
        raise JobError(f"{folder} has no file to transform")
    return tuple(Source(path=path, name=name, content_type=content_type(name)) for path, name in found)


def clear(files: Sequence[Source], output: Path) -> None:
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


def transform(
    files: Sequence[Source],
    server: Server,
    output: Path,
    *,
    how: Decided,
    wanted: Wanted,
    stop: Stop,
    on_file: Callable[[TransformedFile], None],
    on_note: Callable[[str], None],
) -> None:
    """Make `<name>.out` of every file; `on_file` hears how each went. A file that fails leaves none, and others go on.

    An output has its own name only when it is whole. Raises `FactoryError` when it can't be written.
    """
    with ThreadPoolExecutor(how.concurrent) as pool:
        open_files: dict[str, _Output] = {}
        waiting: deque[tuple[Source, Request | None, Future[Answer] | None]] = deque()

        told = time.monotonic()

        def answer_first() -> None:
            nonlocal told
            source, request, future = waiting.popleft()
            made = open_files[source.name]
            if request is None:
                on_file(open_files.pop(source.name).close())
            elif future is not None and not made.reason:
                made.add(request, future)
                if time.monotonic() - told > NEWS:
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

    def __init__(self, source: Source, output: Path, wanted: Wanted) -> None:
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

    def add(self, request: Request, future: "Future[Answer]") -> None:
        """Append an answer, or learn why there is none."""
        try:
            answer = future.result()
        except InvocationError as error:
            self.reason = f"{self._source.name}{request.place}: {error}"
            return
        if not answer.passed:
            self.reason = f"{self._source.name}{request.place}: {answer.sentence}"
            return
        self._file.write(batch.assembled(answer.body, by_line=self._wanted.by_line))
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
    files: Sequence[Source], open_files: dict[str, _Output], output: Path, how: Decided, wanted: Wanted
) -> Iterator[tuple[Source, Request | None]]:
    """The requests of all files, each file's followed by None. Of a file that has failed no more are made."""
    for source in files:
        made = open_files[source.name] = _Output(source, output, wanted)
        try:
            with source.path.open("rb") as file:
                for request in _until_failed(file, how, made):
                    yield source, request
        except batch.TooLarge as error:
            limit = how.payload // batch.MEGABYTE
            made.reason = f"{source.name}{error}: it is larger than MaxPayloadInMB allows, {limit}"
        except OSError as error:
            made.reason = f"{source.name}: it cannot be read: {error.strerror}"
        yield source, None


def _until_failed(file: BinaryIO, how: Decided, made: _Output) -> Iterator[Request]:
    for request in batch.requests(file, how):
        if made.reason:
            return
        yield request


class _Busy(Exception):
    """An answer that may be another a little later."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.sentence)
        self.answer = answer


def _invoke(server: Server, source: Source, request: Request, wanted: Wanted, stop: Stop) -> Answer:
    """One request, asked again while the server is busy, when it wants to be asked or after 0.1 s, 0.2 s and so on."""
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])  # the result says what came of it

    def again(error: Exception) -> bool | float:
        if stop.is_set() or not isinstance(error, _Busy | UnreachableError):
            return False
        wait = error.answer.retry_after if isinstance(error, _Busy) else None
        return True if wait is None else min(wait, _LONGEST)

    try:
        for attempt in stamina.retry_context(on=again, attempts=wanted.retries + 1, timeout=None, wait_jitter=0.1):
            with attempt:
                answer = server.invoke(request.body, content_type=source.content_type, accept=wanted.accept)
                if answer.status in BUSY:
                    raise _Busy(answer)
    except _Busy as error:
        return error.answer
    return answer


def _target(source: Source, output: Path) -> Path:
    return output / f"{source.name}.out"


def _part(source: Source, output: Path) -> Path:
    target = _target(source, output)
    return target.with_name(f".{target.name}.part")
