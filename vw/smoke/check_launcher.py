"""Check Vowpal Wabbit's launcher: it trains a policy from logged decisions, continues from it, and saves a model.

The log has random decisions among four actions. In each of four situations one action has the reward 1. Random actions
get 0.25 per decision, the best policy with epsilon 0.1 gets 0.925. The `vw` program must get 0.7 with the saved model.
"""

import csv
import json
import os
import random
import subprocess
import sys
import tempfile

from sagemaker_rl.job import Job
from sagemaker_rl.vw_launcher import train

DECISIONS, BOUND, SECONDS = 2000, 0.7, 60
ACTIONS = 4


def situation(number):
    return [1.0 if place == number else 0.0 for place in range(ACTIONS)]


def log_of_chance(dice):
    for _ in range(DECISIONS):
        now, action = dice.randrange(ACTIONS), dice.randrange(ACTIONS)
        yield situation(now), action + 1, 1 / ACTIONS, 1 if action == now else 0


def job(folder, file, rows):
    """Write the channel `train` of a training job. Return the job as its script sees it."""
    channel = os.path.join(folder, "input", "data", "train")
    os.makedirs(channel)
    with open(os.path.join(channel, file), "w", newline="") as stream:
        if file.endswith(".csv"):
            writer = csv.writer(stream)
            writer.writerow(["observation", "action", "action_prob", "reward"])
            writer.writerows([json.dumps(row[0])] + list(row[1:]) for row in rows)
        else:
            for observation, action, chance, reward in rows:
                row = {"observation": observation, "action": action, "action_prob": chance, "reward": reward}
                stream.write(json.dumps(row) + "\n")
    return Job({"SAGEMAKER_BASE_DIR": folder, "SM_HPS": json.dumps({"num_actions": ACTIONS})})


def served(folder):
    """Return the mean reward of the saved policy, as the `vw` program answers with the saved options."""
    with open(os.path.join(folder, "vw.metadata")) as stream:
        options = stream.read().split()
    model = os.path.join(folder, "vw.model")
    questions = "".join("| {}:1\n".format(number + 1) for number in range(ACTIONS))
    answers = subprocess.check_output(
        ["vw"] + options + ["-i", model, "--testonly", "--quiet", "-p", "/dev/stdout"],
        input=questions,
        universal_newlines=True,
        timeout=SECONDS,
    )
    lines = [line.replace(",", " ").split() for line in answers.splitlines() if line.strip()]
    reward = 0.0
    for number, words in enumerate(lines):
        if ":" in words[0]:  # from 8.11 on: the best action first, actions count from 0
            chances = {int(action): float(chance) for action, chance in (word.split(":") for word in words)}
        else:
            chances = dict(enumerate(float(word) for word in words))
        reward += chances[number]
    return reward / ACTIONS


def main():
    dice = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        first = job(os.path.join(folder, "first"), "log.csv", log_of_chance(dice))
        train(first)
        learned = served(first.model)
        # Ten decisions hardly change a trained policy. A new policy would learn almost nothing from them.
        rows = list(log_of_chance(dice))[:10]
        second = job(os.path.join(folder, "second"), "log.jsonl", rows)
        os.symlink(first.model, os.path.join(second.base, "input", "data", "pretrained_model"))
        train(second)
        kept = served(second.model)
    print("expected reward {:.3f}, {:.3f} after ten more decisions, required {}".format(learned, kept, BOUND))
    return 0 if min(learned, kept) >= BOUND else 1


sys.exit(main())
