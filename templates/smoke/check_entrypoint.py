"""The entrypoint refuses what it does not know, and otherwise stays out of the way."""

import json
import os
import signal
import subprocess
import sys
import tempfile

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)


def call(*words, **options):
    """Exit status and what was said."""
    child = subprocess.Popen(
        CELL["entrypoint"] + list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    said = child.communicate()[0].decode("utf-8", "replace").strip()
    return child.returncode, said


def main():
    wrong = []
    for words in ((), ("no-such-program",), ("--help",), ("/etc",), ("cd",)):
        status, said = call(*words)
        print("%s: exit %d: %s" % (" ".join(words) or "nothing", status, said))
        if status != 64 or not said or "\n" in said:
            wrong.append("%s should exit 64 with one sentence" % (" ".join(words) or "nothing"))

    status, said = call("sh", "-c", "echo there; exit 7")
    if (status, said) != (7, "there"):
        wrong.append("a command's exit status 7 became %d, its output %r" % (status, said))

    with tempfile.TemporaryDirectory() as folder:
        impostor = os.path.join(folder, "no-such-program")
        with open(impostor, "w") as stream:
            stream.write("#!/bin/sh\necho impostor\n")
        os.chmod(impostor, 0o755)
        if call("no-such-program", cwd=folder)[0] != 64:
            wrong.append("a program of the working directory was started by its bare name")

    child = subprocess.Popen(
        CELL["entrypoint"] + ["sh", "-c", 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'],
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    if child.wait() != 9:
        wrong.append("SIGTERM did not reach the command: it ended with %d" % child.returncode)

    with open("/proc/1/cmdline") as stream:
        first = os.path.basename(stream.read().split("\0")[0])
    if first not in ("tini", "dumb-init", "docker-init", "init"):
        wrong.append("process 1 is %s, which neither forwards signals nor reaps orphans" % first)

    if wrong:
        print("; ".join(wrong))
        return 1
    print("refuses with 64, passes exit statuses and signals on, under %s" % first)
    return 0


sys.exit(main())
