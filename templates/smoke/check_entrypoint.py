"""Check that the entrypoint refuses unknown programs, and passes on exit statuses and signals."""

import json
import os
import signal
import subprocess
import sys
import tempfile

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)


def call(*words, **options):
    """Return the exit status and the output of the entrypoint with these arguments."""
    child = subprocess.Popen(
        CELL["entrypoint"] + list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    said = child.communicate()[0].decode("utf-8", "replace").strip()
    return child.returncode, said


def main():
    wrong = []
    for words in ((), ("no-such-program",), ("--help",), ("/etc",), ("cd",)):
        status, said = call(*words)
        print("%s: exit %d: %s" % (" ".join(words) or "no argument", status, said))
        if status != 64 or not said or "\n" in said:
            wrong.append("%s should exit with 64 and print one sentence" % (" ".join(words) or "no argument"))

    status, said = call("sh", "-c", "echo there; exit 7")
    if (status, said) != (7, "there"):
        wrong.append("a command that exits with 7 ended with %d and printed %r" % (status, said))

    with tempfile.TemporaryDirectory() as folder:
        impostor = os.path.join(folder, "no-such-program")
        with open(impostor, "w") as stream:
            stream.write("#!/bin/sh\necho impostor\n")
        os.chmod(impostor, 0o755)
        if call("no-such-program", cwd=folder)[0] != 64:
            wrong.append("a program in the working directory was started by its name alone, without a path")

    child = subprocess.Popen(
        CELL["entrypoint"] + ["sh", "-c", 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'],
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    if child.wait() != 9:
        wrong.append("SIGTERM did not reach the command: it ended with %d, not 9" % child.returncode)

    with open("/proc/1/cmdline") as stream:
        first = os.path.basename(stream.read().split("\0")[0])
    if first not in ("tini", "dumb-init", "docker-init", "init"):
        wrong.append("process 1 is %s, which neither forwards signals nor reaps orphaned processes" % first)

    if wrong:
        print("; ".join(wrong))
        return 1
    print("refuses unknown programs with 64, passes on exit statuses and signals; process 1 is %s" % first)
    return 0


sys.exit(main())
