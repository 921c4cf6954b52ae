"""Check how `train` runs a script: arguments, exit status, failure file and SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

SCRIPTS = {
    "works.py": """
import os, sys, time
print("first line at %.3f" % time.time())
print("arguments %s" % " ".join(sys.argv[1:]))
open(os.path.join(os.environ["SM_MODEL_DIR"], "model"), "w").close()
""",
    "fails.py": """
raise ValueError("the reward was not a number")
""",
    "ends_well.py": """
import os, signal, sys, time
def save(number, frame):
    time.sleep(1)
    open(os.path.join(os.environ["SM_MODEL_DIR"], "checkpoint"), "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
sys.stdout.flush()
time.sleep(60)
""",
}


class Job:
    """The folders of one training job. Its only host is `localhost`, which resolves without a network."""

    def __init__(self, base, script):
        self.base = base
        for folder in ("input/config", "input/data", "code", "model", "output/data"):
            os.makedirs(os.path.join(base, folder))
        with open(os.path.join(base, "code", script), "w") as stream:
            stream.write(SCRIPTS[script])
        self._write("hyperparameters.json", {"sagemaker_program": '"%s"' % script, "rl.training.config.lr": "0.25"})
        self._write("inputdataconfig.json", {})
        self._write(
            "resourceconfig.json", {"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"}
        )

    def _write(self, name, content):
        with open(os.path.join(self.base, "input", "config", name), "w") as stream:
            json.dump(content, stream)

    def start(self):
        environment = dict(os.environ, SAGEMAKER_BASE_DIR=self.base, AWS_REGION="us-west-2", PYTHONUNBUFFERED="1")
        # A framework's own training module would fetch the script from S3; this job has it already.
        environment.pop("SAGEMAKER_TRAINING_MODULE", None)
        return subprocess.Popen(
            CELL["entrypoint"] + ["train"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def has(self, *path):
        return os.path.exists(os.path.join(self.base, *path))

    def failure(self):
        path = os.path.join(self.base, "output", "failure")
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as stream:
            return stream.read()


def a_script_that_works(job):
    started = time.time()
    child = job.start()
    said = child.communicate()[0].decode("utf-8", "replace")
    print(said)
    if child.returncode != 0 or not job.has("output", "success") or not job.has("model", "model"):
        return "a script that succeeds ended with %d, or without its success file or model" % child.returncode
    if "arguments --rl.training.config.lr 0.25" not in said:
        return "the hyperparameters did not become the script's arguments"
    first = float(said.split("first line at ")[1].split()[0]) - started
    print("first line of the script after %.2f s" % first)
    return None


def a_script_that_fails(job):
    child = job.start()
    print(child.communicate()[0].decode("utf-8", "replace"))
    if child.returncode == 0 or job.has("output", "success"):
        return "a script that fails ended with %d, or left a success file" % child.returncode
    shown = job.failure()[:1024]
    if "fails.py" not in shown or "ValueError: the reward was not a number" not in shown:
        return "the first 1024 characters of the failure file lack the script or the error: %r" % shown
    return None


def a_script_that_is_stopped(job):
    child = job.start()
    for line in iter(child.stdout.readline, b""):
        if b"ready" in line:
            break
    # Process 1 sends it like this: to every process of the job.
    os.killpg(child.pid, signal.SIGTERM)
    child.wait()
    # The container ends with `train`, even if the script is still running.
    if not job.has("model", "checkpoint"):
        return "SIGTERM ended the job (exit status %d) before its script had saved a checkpoint" % child.returncode
    return None


def main():
    steps = (
        (a_script_that_works, "works.py"),
        (a_script_that_fails, "fails.py"),
        (a_script_that_is_stopped, "ends_well.py"),
    )
    for step, script in steps:
        with tempfile.TemporaryDirectory() as base:
            wrong = step(Job(base, script))
        if wrong:
            print(wrong)
            return 1
    print("a script succeeds, fails and is stopped as documented")
    return 0


sys.exit(main())
