"""Run a program and write its exit code, seconds and peak memory: `stopwatch.py RESULT LOG PROGRAM ...`.

The peak memory of a child process includes that of its parent at the fork. So this program is small and imports little,
and starts the measured program in place of the benchmark.
"""

import os
import sys
import time


def main() -> None:
    result, log, *argv = sys.argv[1:]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    started = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    with open(result, "w") as file:
        file.write(f"{os.waitstatus_to_exitcode(status)} {seconds} {usage.ru_maxrss * 1024}")


main()
