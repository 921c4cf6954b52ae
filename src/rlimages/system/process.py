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
"""The type of the event that SIGINT or SIGTERM sets (see `stopping_on_signals`). Long work checks it and ends early."""
GRACE = 10.0
"""Seconds that a program has after SIGTERM to end by itself, before it gets SIGKILL."""
_POLL_SECONDS = 0.1
"""Seconds between two checks of the time limit and of `Stop`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramResult:
    """How a program of `run_program` ended, and how long it ran."""

    code: int
    """Exit status; if a signal ended the program, minus the number of the signal."""
    seconds: float
    """Duration of the program."""
    timed_out: bool = False
    """True if the program was stopped because of its time limit."""
    cancelled: bool = False
    """True if the program was stopped because the event `stop` was set."""

    @property
    def passed(self) -> bool:
        """True if the program ended by itself with exit status 0."""
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
    """Run the program `argv` until it ends, and return how it ended. Append its output to the file `log`.

    Standard output and standard error are read as one stream, and each line is also passed to `on_line`. After
    `timeout` seconds (None: no limit), or when `stop` is set, the program's process group gets SIGTERM, and `grace`
    seconds later SIGKILL. `cwd` is the working folder and `env` the environment of the program; None means those of
    this process. Raise `ToolError`, with the advice `remedy` in its text, if the program can't be started.
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
        # a second Ctrl-C, for example: the program has its own process group and would go on without us
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
    """Run the program `argv` with the concatenated content of the files `sources` as its standard input.

    Return the program's exit status (minus the signal's number if a signal ended it). Its output is discarded. It is no
    error if the program ends before it has read everything. Raise `OSError` if the program can't be started or a file
    can't be read.
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
    """Within the block, set `stop` when the process receives its first SIGINT or SIGTERM.

    A second signal gets the handler from before the block, so that it ends the process. If the signal was ignored
    before the block, the second one gets Python's default handler. The handlers are restored at the end of the block.
    """
    old: dict[signal.Signals, object] = {}
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.set()
        received = signal.Signals(number)
        # a shell without job control starts background commands with SIGINT ignored
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
    """Wait until the program ends, its time limit is over or `stop` is set. The program is not stopped here.

    `started` is the start of the program by `time.monotonic()`, and `timeout` the time limit in seconds (None: no
    limit). Return two flags: the time limit is over, and `stop` is set. Both are False if the program ended by itself.
    """
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
    """Stop all processes in the group of `process`: send SIGTERM, wait at most `grace` seconds, then send SIGKILL."""
    _signal(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=grace)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send the signal `number` to all processes in the group of `process`; do nothing if all have ended."""
    with suppress(ProcessLookupError):
        # the group keeps the id of its first process, even after that process ended
        os.killpg(process.pid, number)


def _read_output(stream: IO[str], log: Path | None, on_line: Callable[[str], None] | None) -> None:
    """Append each line of `stream` to the file `log`, and pass it to `on_line` without its line end."""
    with stream, open(log or os.devnull, "a", encoding="utf-8") as file:
        for line in stream:
            file.write(line)
            file.flush()
            if on_line is not None:
                on_line(line.rstrip("\n"))


def this_process() -> str:
    """Return an id of this process, `host:pid:start time`.

    No other process has it, on any machine or after a restart.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_dead(process_id: str) -> bool:
    """Return True if a process of this machine has ended. `process_id` is what `this_process` returned in that process.

    Return False for a process of another machine, about which nothing is known here.
    """
    host, pid, start = process_id.rsplit(":", 2)
    return host == socket.gethostname() and _start_time(int(pid)) != start


def _start_time(pid: int) -> str:
    """Return when the process `pid` started, in clock ticks after boot; an empty string if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # field 2 is the program's name in parentheses, which may itself have some: read after the last one
    state, *rest = stat.rsplit(")", 1)[1].split()
    # Z: a zombie has ended, only its parent has not noticed. rest[18] is field 22, the start time (proc(5)).
    return "" if state == "Z" else rest[18]
