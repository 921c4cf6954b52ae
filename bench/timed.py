"""Run programs, and measure their time and memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Measurement

STOPWATCH = Path(__file__).with_name("stopwatch.py")


class BenchmarkError(Exception):
    """A program failed, or something that the benchmark needs is missing."""


class ProgramError(BenchmarkError):
    """A measured program ended with an error."""


def timed(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, passed: Sequence[int] = (0,)
) -> Measurement:
    """Run a program. Return its wall time and its peak `memory` in bytes, which is that of its largest process alone.

    Its output is written to `log`. Raises `ProgramError` unless its exit code is one of `passed`.
    """
    result = log.with_suffix(".result")
    result.unlink(missing_ok=True)
    stopwatch = [sys.executable, "-I", "-S", str(STOPWATCH), str(result), str(log), *argv]
    process = subprocess.Popen(stopwatch, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    code, seconds, memory = result.read_text().split() if result.is_file() else (process.returncode, 0, 0)
    if int(code) not in passed or process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.is_file() else ""
        raise ProgramError(f"{' '.join(argv[:6])} … ended with {code}; {log} ends with:\n{tail}")
    return Measurement(seconds=float(seconds), facts={"memory": float(memory)})


def output(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], passed: Sequence[int] = (0,)) -> str:
    """Run a program, and return what it prints. Raises `BenchmarkError` unless its exit code is one of `passed`."""
    process = subprocess.run(argv, cwd=cwd, env=dict(env), capture_output=True, text=True, check=False)
    if process.returncode not in passed:
        raise BenchmarkError(f"{' '.join(argv[:6])} … ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return process.stdout
