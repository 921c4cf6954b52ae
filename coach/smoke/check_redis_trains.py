"""Check that one process learns from two that play, over a Redis server on the loopback that ends with the job."""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

LEARNED, SECONDS = 3, 120
EPISODE = re.compile(r"^Training>.*Episode=(\d+), Total reward=.*Training iteration=(\d+)")
LISTENS, LOOPBACK = "0A", ("0100007F", "00000000000000000000000001000000")

SCRIPT = """
from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher

class Launcher(SageMakerCoachPresetLauncher):
    def default_preset_name(self):
        return "CartPole_ClippedPPO"

if __name__ == "__main__":
    Launcher.train_main()
"""


def servers():
    """Return the process ids of the Redis servers in this container."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as stream:
                if stream.read().startswith("redis-server"):
                    found.append(path.split("/")[2])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_to_others():
    """Return the addresses of listening sockets that are not on the loopback, in the kernel's notation."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(path):
            with open(path) as stream:
                lines = [line.split() for line in stream.readlines()[1:]]
            found |= {words[1] for words in lines if words[3] == LISTENS and words[1].split(":")[0] not in LOOPBACK}
    return found


def main():
    with open("/checks/cell.json") as stream:
        if json.load(stream)["framework"]["name"] != "mxnet":
            print("Coach has its own workers on TensorFlow")
            return 77
    before = open_to_others()
    asked = {
        "RLCOACH_PRESET": "CartPole_ClippedPPO",
        "num_workers": 2,
        "save_model": 1,
        "seed": 1,
        "rl.improve_steps:TrainingSteps": LEARNED,
        "rl.evaluation_steps:EnvironmentEpisodes": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "train.py")
        with open(script, "w") as stream:
            stream.write(SCRIPT)
        job = subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=dict(os.environ, SAGEMAKER_BASE_DIR=folder, SM_HPS=json.dumps(asked), HOME=folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        deadline = threading.Timer(SECONDS, job.kill)
        deadline.start()
        start, said, seen, opened = time.time(), [], set(), set()
        for line in job.stdout:
            said.append(line)
            seen.update(servers())
            opened |= open_to_others() - before
        deadline.cancel()
        failed, left = job.wait(), servers()
        spent = time.time() - start
        found = [EPISODE.match(line) for line in said]
        episodes = [(int(match.group(1)), int(match.group(2))) for match in found if match]
        kept = os.path.exists(os.path.join(folder, "model", "network.json"))
    if failed or not kept or not episodes:
        print("".join(said))
        print("the training script ended with {}, {} model".format(failed, "with a" if kept else "without a"))
        return 1
    if max(iteration for _, iteration in episodes) < LEARNED - 1:
        print("the learner learned {} times, not {}".format(max(iteration for _, iteration in episodes) + 1, LEARNED))
        return 1
    if len({episode for episode, _ in episodes}) < len(episodes):
        print("an episode is printed twice, so metrics would count it twice")
        return 1
    if not seen or left or opened:
        print(
            "Redis servers: {} seen, {} still running; sockets outside the loopback: {}".format(
                len(seen), len(left), sorted(opened)
            )
        )
        return 1
    print("{} episodes of 2 workers, learned {} times in {:.0f} s".format(len(episodes), LEARNED, spent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
