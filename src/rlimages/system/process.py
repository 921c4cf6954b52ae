"""Run programs: stream their output, end them on a timeout or a signal, and tell live processes from dead ones."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from rlimages.errors import ToolError

Stop = threading.Event
"""Set once, by a signal or by a test, when everything should come to an end."""
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL_SECONDS = 0.1
"""Seconds between two looks at the clock and at `Stop`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramResult:
    """How a program ended."""

    code: int
    """Its exit status; minus the number of the signal that ended it."""
    seconds: float
    timed_out: bool = False
    cancelled: bool = False

    @property
    def passed(self) -> bool:
        """True when it ended by itself, with 0."""
        return self.code == 0 and not self.timed_out and not self.cancelled


def run_program(
    argv: Sequence[str],
    *,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
    stop: Stop | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
    remedy: str = "",
) -> ProgramResult:
    """Run one program to its end; what it prints goes to `log` (appended) and, line by line, to `on_line`.

    Both streams are read as one. On the time limit, or when `stop` is set, its whole process group gets SIGTERM, and
    SIGKILL after `grace` seconds. Raises `ToolError` with `remedy` when there is no such program.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except (FileNotFoundError, PermissionError) as error:
        hint = f"; {remedy}" if remedy else ""
        raise ToolError(f"cannot run {argv[0]}: {error.strerror or error}{hint}") from error
    assert process.stdout is not None
    reader = threading.Thread(target=_read_output, args=(process.stdout, log, on_line), daemon=True)
    reader.start()
    try:
        timed_out, cancelled = _wait(process, started, timeout, stop)
        if timed_out or cancelled:
            _end(process, grace)
    except BaseException:
        _signal(process, signal.SIGKILL)
        raise
    reader.join(timeout=1.0)
    if reader.is_alive():  # a grandchild still holds the pipe
        _signal(process, signal.SIGKILL)
        reader.join(timeout=1.0)
    return ProgramResult(
        code=process.returncode, seconds=time.monotonic() - started, timed_out=timed_out, cancelled=cancelled
    )


def run_with_input(argv: Sequence[str], sources: Iterable[Path]) -> int:
    """Run one program with the content of files, one after the other, as its standard input; its exit status.

    What it prints is not wanted. It may leave the rest where it has had enough. Raises `OSError` where there is no such
    program, or where a file can't be read; then its input ends there.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with suppress(BrokenPipeError), process:
        assert process.stdin is not None
        for source in sources:
            with source.open("rb") as file:
                shutil.copyfileobj(file, process.stdin)
    return process.returncode


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; a second one gets the old treatment, for those who can't wait.

    A shell without job control starts what it puts into the background with SIGINT ignored; where the old treatment is
    to ignore, a second one gets Python's own.
    """
    old: dict[signal.Signals, object] = {}
    own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def heard(number: int, _frame: FrameType | None) -> None:
        stop.set()
        named = signal.Signals(number)
        signal.signal(number, own[named] if old[named] is signal.SIG_IGN else old[named])  # type: ignore[arg-type]

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _wait(
    process: subprocess.Popen[str], started: float, timeout: float | None, stop: Stop | None
) -> tuple[bool, bool]:
    """Wait for the end: (timed out, cancelled)."""
    while True:
        left = _POLL_SECONDS if timeout is None else min(_POLL_SECONDS, started + timeout - time.monotonic())
        if left <= 0:
            return True, False
        try:
            process.wait(timeout=left)
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                return False, True
        else:
            return False, False


def _end(process: subprocess.Popen[str], grace: float) -> None:
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=grace)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the whole group; it is named after its first process, which need not live any more."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _read_output(stream: IO[str], log: Path | None, on_line: Callable[[str], None] | None) -> None:
    with stream, open(log or os.devnull, "a", encoding="utf-8") as file:
        for line in stream:
            file.write(line)
            file.flush()
            if on_line is not None:
                on_line(line.rstrip("\n"))


def this_process() -> str:
    """A name for this process that no other gets, on any machine or after a restart: `host:pid:start`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_dead(process: str) -> bool:
    """True when the process that `this_process` named so is gone. Of another machine's processes nothing is known."""
    host, pid, born = process.rsplit(":", 2)
    return host == socket.gethostname() and _start_time(int(pid)) != born


def _start_time(pid: int) -> str:
    """The process's start, in clock ticks since the machine's: field 22 of proc(5)'s `stat`; empty when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rsplit(")", 1)[1].split()
    return "" if state == "Z" else rest[18]
