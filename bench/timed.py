"""Run a program and say what it took."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Taken

STOPWATCH = Path(__file__).with_name("stopwatch.py")


class Failed(Exception):
    """A program did not do what the benchmark needs; the sentence has its last words."""


class Ended(Failed):
    """A program that was measured ended with an error."""


def timed(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, passed: Sequence[int] = (0,)) -> Taken:
    """Wall time of a program and the most memory that it had (`memory`, in bytes, of the largest process alone).

    `log` gets what it says. Raises `Ended` unless its exit code is one of `passed`.
    """
    result = log.with_suffix(".result")
    result.unlink(missing_ok=True)
    words = [sys.executable, "-I", "-S", str(STOPWATCH), str(result), str(log), *argv]
    watch = subprocess.Popen(words, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        watch.wait()
    except BaseException:
        os.killpg(watch.pid, signal.SIGTERM)
        watch.wait()
        raise
    code, seconds, memory = result.read_text().split() if result.is_file() else (watch.returncode, 0, 0)
    if int(code) not in passed or watch.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.is_file() else ""
        raise Ended(f"{' '.join(argv[:6])} … ended with {code}; {log} ends with:\n{tail}")
    return Taken(seconds=float(seconds), facts={"memory": float(memory)})


def output(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], passed: Sequence[int] = (0,)) -> str:
    """What a program prints. Raises `Failed` unless its exit code is one of `passed`."""
    done = subprocess.run(argv, cwd=cwd, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode not in passed:
        raise Failed(f"{' '.join(argv[:6])} … ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
