"""Run a program and write down what it took: `stopwatch.py RESULT LOG PROGRAM ...`. Imports nothing that is large.

A child's peak memory counts from its fork: one of the benchmark itself would never have less than the benchmark has.
"""

import os
import sys
import time


def main() -> None:
    result, log, *argv = sys.argv[1:]
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    actions = [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
    began = time.perf_counter()
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    with open(result, "w") as file:
        file.write(f"{os.waitstatus_to_exitcode(status)} {seconds} {usage.ru_maxrss * 1024}")


main()
