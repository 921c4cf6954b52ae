"""Check that gethostname() returns SageMaker's name of the host, or the kernel's name if SageMaker gave none."""

import json
import os
import subprocess
import sys
import tempfile

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

ASK = "import socket; print(socket.gethostname())"
# With a buffer that is too short: -1, ENAMETOOLONG (36 on Linux), and a string that is still terminated.
SHORT = (
    "import ctypes; c = ctypes.CDLL(None, use_errno=True); b = ctypes.create_string_buffer(b'xxxxxxxx'); "
    "print(c.gethostname(b, 4), ctypes.get_errno(), b.value.decode())"
)


def answer(program, config):
    """Return what a program prints when resourceconfig.json has this text; None means no such file."""
    with tempfile.TemporaryDirectory() as base:
        folder = os.path.join(base, "input", "config")
        os.makedirs(folder)
        if config is not None:
            with open(os.path.join(folder, "resourceconfig.json"), "w") as stream:
                stream.write(config)
        environment = dict(os.environ, SAGEMAKER_BASE_DIR=base)
        environment.pop("LD_PRELOAD", None)
        environment.pop("RLIMAGES_HOSTNAME", None)
        command = CELL["entrypoint"] + [sys.executable, "-c", program]
        return subprocess.check_output(command, env=environment, stderr=subprocess.STDOUT).decode().strip()


def main():
    kernel = os.uname()[1]
    pretty = json.dumps({"hosts": ["algo-1", "algo-2"], "current_host": "algo-2"}, indent=2)
    cases = (
        (ASK, '{"current_host":"algo-1","hosts":["algo-1"]}', "algo-1"),
        (ASK, pretty, "algo-2"),
        (SHORT, '{"current_host":"algo-17"}', "-1 36 alg"),
        (ASK, None, kernel),
        (ASK, "", kernel),
        (ASK, '{"current_host": null}', kernel),
        (ASK, '{"current_host": "$(reboot)"}', kernel),
    )
    for program, config, expected in cases:
        found = answer(program, config)
        print("%s -> %s" % (config, found))
        if found != expected:
            print("with resourceconfig.json %r the host name is %r, not %r" % (config, found, expected))
            return 1
    print("%d cases gave the right host name" % len(cases))
    return 0


sys.exit(main())
