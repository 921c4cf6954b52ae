"""Check that `coach` learns CartPole with Clipped PPO on this image's framework.

Required: a mean reward of 100 over 20 consecutive training episodes, within 180 s. Random actions reach 22. The rewards
are read from the same log lines as SageMaker's metrics (`reward-training` of the SDK's RLEstimator).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

BOUND, EPISODES, SECONDS = 100, 20, 180
REWARD = re.compile(r"^Training>.*Total reward=(.*?),")
FRAMEWORKS = {"tf": "tensorflow", "mxnet": "mxnet"}


def main():
    with open("/checks/cell.json") as file:
        framework = FRAMEWORKS[json.load(file)["framework"]["name"]]
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, HOME=folder, PYTHONUNBUFFERED="1")
        command = ["coach", "-p", "CartPole_ClippedPPO", "-f", framework, "-e", "smoke", "--nocolor", "--seed", "1"]
        start = time.time()
        coach = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        deadline = threading.Timer(SECONDS, coach.kill)
        deadline.start()
        rewards, mean, best, last = [], 0, 0, ""
        for line in coach.stdout:
            last = line.strip() or last
            found = REWARD.match(line)
            if not found:
                continue
            rewards.append(float(found.group(1)))
            if len(rewards) >= EPISODES:
                mean = sum(rewards[-EPISODES:]) / EPISODES
                best = max(best, mean)
            if mean >= BOUND:
                break
        deadline.cancel()
        coach.kill()
        coach.wait()
    if not rewards:
        print("coach played no episode; its last line: {}".format(last))
        return 1
    first = sum(rewards[:EPISODES]) / EPISODES
    learned = "mean reward rose from {:.0f} to {:.0f} in {} episodes".format(first, best, len(rewards))
    print("{} and {:.0f} s; required: {} within {} s".format(learned, time.time() - start, BOUND, SECONDS))
    return 0 if mean >= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
