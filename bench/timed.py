"""Run a program and say what it took."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Taken


class Failed(Exception):
    """A program did not do what the benchmark needs; the sentence has its last words."""


def timed(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, passed: Sequence[int] = (0,)) -> Taken:
    """Wall time of a program and the most memory that it had (`memory`, in bytes, of the largest process alone).

    `log` gets what it says. Raises `Failed` unless its exit code is one of `passed`.
    """
    with log.open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - began
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code not in passed:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise Failed(f"{' '.join(argv[:6])} … ended with {code}; {log} ends with:\n{tail}")
    return Taken(seconds=seconds, facts={"memory": usage.ru_maxrss * 1024})


def output(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], passed: Sequence[int] = (0,)) -> str:
    """What a program prints. Raises `Failed` unless its exit code is one of `passed`."""
    done = subprocess.run(argv, cwd=cwd, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode not in passed:
        raise Failed(f"{' '.join(argv[:6])} … ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
