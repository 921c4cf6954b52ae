import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from rlimages.errors import ToolError
from rlimages.system.process import (
    ProgramResult,
    Stop,
    is_dead,
    run_program,
    run_with_input,
    stopping_on_signals,
    this_process,
)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def ends(pid: int) -> bool:
    """Return True if the process ends within two seconds; the kernel needs a moment after a signal."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_the_exit_status_is_returned() -> None:
    assert run_program(["sh", "-c", "exit 7"]).code == 7


def test_a_program_passed_only_if_it_ended_by_itself_with_0() -> None:
    assert ProgramResult(code=0, seconds=1).passed
    assert not ProgramResult(code=0, seconds=1, timed_out=True).passed
    assert not ProgramResult(code=0, seconds=1, cancelled=True).passed
    assert not ProgramResult(code=1, seconds=1).passed


def test_both_streams_reach_the_log_and_the_callback_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    run_program(["sh", "-c", "echo one; echo two >&2; printf three"], log=log, on_line=lines.append)
    assert lines == ["one", "two", "three"]
    assert log.read_text() == "one\ntwo\nthree"


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    run_program(["echo", "after"], log=log)
    assert log.read_text() == "before\nafter\n"


def test_output_that_is_not_utf8_is_replaced() -> None:
    lines: list[str] = []
    assert run_program(["printf", r"a\377b\n"], on_line=lines.append).passed
    assert lines == ["a\ufffdb"]


def test_a_program_that_takes_too_long_is_ended() -> None:
    ended = run_program(["sleep", "30"], timeout=0.2)
    assert ended.timed_out
    assert not ended.cancelled
    assert ended.seconds < 5


def test_stop_ends_a_running_program() -> None:
    stop = Stop()
    threading.Timer(0.2, stop.set).start()
    ended = run_program(["sleep", "30"], stop=stop)
    assert ended.cancelled
    assert ended.code == -signal.SIGTERM
    assert ended.seconds < 5


def test_stop_ends_the_children_of_the_program_too() -> None:
    lines: list[str] = []
    stop = Stop()
    threading.Timer(0.3, stop.set).start()
    run_program(["sh", "-c", "sleep 30 & echo $!; wait"], stop=stop, on_line=lines.append)
    assert ends(int(lines[0]))


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace_period() -> None:
    stop = Stop()
    program = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    ended = run_program(["sh", "-c", program], stop=stop, on_line=lambda _line: stop.set(), grace=0.2)
    assert ended.code == -signal.SIGKILL


def test_a_grandchild_that_keeps_the_pipe_open_does_not_block() -> None:
    lines: list[str] = []
    ended = run_program(["sh", "-c", "sleep 30 & echo $!"], on_line=lines.append)
    assert ended.passed
    assert ended.seconds < 5
    assert ends(int(lines[0]))


def test_a_missing_program_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ToolError, match=r"no-such-program.*; install it"):
        run_program(["no-such-program"], remedy="install it")


def test_a_program_has_a_process_group_of_its_own() -> None:
    lines: list[str] = []
    run_program(python("import os; print(os.getpgid(0) == os.getpid())"), on_line=lines.append)
    assert lines == ["True"]


def test_the_first_signal_sets_stop_and_the_second_goes_to_the_old_handler() -> None:
    received: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        stop = Stop()
        with stopping_on_signals(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(1)
            assert not received
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, old)


def test_this_process_is_not_dead() -> None:
    assert not is_dead(this_process())


def test_a_process_that_ended_is_dead() -> None:
    lines: list[str] = []
    run_program(python("from rlimages.system.process import this_process; print(this_process())"), on_line=lines.append)
    assert is_dead(lines[0])


def test_a_process_id_that_was_used_again_is_another_process() -> None:
    host, pid, _start = this_process().rsplit(":", 2)
    assert is_dead(f"{host}:{pid}:1")


def test_a_process_of_another_machine_counts_as_running() -> None:
    assert not is_dead("other-host:999999999:1")


def test_a_second_signal_interrupts_even_if_it_was_ignored_at_the_start() -> None:
    """A shell script starts `rlimages … &` with SIGINT ignored."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = Stop()
    try:
        with stopping_on_signals(stop):
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, old)


def test_files_are_concatenated_as_standard_input(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert run_with_input(["sh", "-c", f"cat >{tmp_path}/out; exit 3"], [tmp_path / "a", tmp_path / "b"]) == 3
    assert (tmp_path / "out").read_text() == "ab"


def test_a_program_may_end_before_it_has_read_its_input(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10**6))
    assert run_with_input(["sh", "-c", "exit 5"], [tmp_path / "a"]) == 5


def test_an_input_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_with_input(["cat"], [tmp_path / "none"])
