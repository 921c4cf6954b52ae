"""Run programs with a time limit, handle SIGINT and SIGTERM, and find out whether a process still runs."""

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
"""The event that is set, once, by SIGINT or SIGTERM. Work that sees it set ends early."""
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_POLL_SECONDS = 0.1
"""Seconds between two checks of the time limit and of `Stop`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramResult:
    """The exit status and duration of a program."""

    code: int
    """Exit status; if a signal ended the program, minus the number of the signal."""
    seconds: float
    timed_out: bool = False
    """True if it was ended because of its time limit."""
    cancelled: bool = False
    """True if it was ended because `Stop` was set."""

    @property
    def passed(self) -> bool:
        """Return True if the program ended by itself with exit status 0."""
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
    """Run a program until it ends; append its output to `log` and pass each line to `on_line`.

    Its standard output and standard error are read as one stream. After `timeout` seconds, or when `stop` is set, its
    process group gets SIGTERM, and `grace` seconds later SIGKILL. Raise `ToolError`, with `remedy` in its text, if the
    program can't be started.
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
            start_new_session=True,  # its own process group: Ctrl-C reaches only us, and we signal the whole group
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
    if reader.is_alive():  # a grandchild still has the pipe open
        _signal(process, signal.SIGKILL)
        reader.join(timeout=1.0)
    return ProgramResult(
        code=process.returncode, seconds=time.monotonic() - started, timed_out=timed_out, cancelled=cancelled
    )


def run_with_input(argv: Sequence[str], sources: Iterable[Path]) -> int:
    """Run a program with the concatenated content of files as its standard input. Return its exit status.

    Its output is discarded. It may end before it has read everything. Raise `OSError` if the program can't be started
    or a file can't be read.
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
    """Let the first SIGINT or SIGTERM set `stop`. A second one is handled as before, so that it ends the process.

    If the signal was ignored before, the second one gets Python's default handler: a shell without job control starts
    background commands with SIGINT ignored.
    """
    old: dict[signal.Signals, object] = {}
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.set()
        received = signal.Signals(number)
        handler = defaults[received] if old[received] is signal.SIG_IGN else old[received]
        signal.signal(number, handler)  # type: ignore[arg-type]

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _wait(
    process: subprocess.Popen[str], started: float, timeout: float | None, stop: Stop | None
) -> tuple[bool, bool]:
    """Wait until the program ends, its time is over or `stop` is set. Return (timed out, cancelled)."""
    while True:
        seconds = _POLL_SECONDS if timeout is None else min(_POLL_SECONDS, started + timeout - time.monotonic())
        if seconds <= 0:
            return True, False
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                return False, True
        else:
            return False, False


def _end(process: subprocess.Popen[str], grace: float) -> None:
    """Send SIGTERM to the process group, then SIGKILL to whatever is left of it after `grace` seconds."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=grace)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the process group, which has the id of its first process, even after that one ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _read_output(stream: IO[str], log: Path | None, on_line: Callable[[str], None] | None) -> None:
    """Append each line of a stream to the log, and pass it to `on_line`."""
    with stream, open(log or os.devnull, "a", encoding="utf-8") as file:
        for line in stream:
            file.write(line)
            file.flush()
            if on_line is not None:
                on_line(line.rstrip("\n"))


def this_process() -> str:
    """Return an id of this process that is unique among machines and restarts: `host:pid:start time`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_dead(process: str) -> bool:
    """Return True if the process with an id of `this_process` has ended; False for a process of another machine."""
    host, pid, start = process.rsplit(":", 2)
    return host == socket.gethostname() and _start_time(int(pid)) != start


def _start_time(pid: int) -> str:
    """Return when a process started, in clock ticks after boot (field 22 of `stat`, proc(5)); empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # field 2 is the program's name in parentheses, which may itself have some: read after the last one
    state, *rest = stat.rsplit(")", 1)[1].split()
    return "" if state == "Z" else rest[18]  # Z: a zombie has ended, only its parent has not noticed
