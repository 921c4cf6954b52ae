"""Logged decisions of a contextual bandit, made here: four situations, four actions, of which one pays."""

import csv
import json
import random
from pathlib import Path

ACTIONS = 4
SEED = 7


def situation(number: int) -> list[float]:
    """What is observed: a one in the place of the action that pays."""
    return [float(place == number) for place in range(ACTIONS)]


def write_log(folder: Path, decisions: int) -> Path:
    """A channel with decisions that were taken by chance: observation, action from 1, its probability, reward."""
    dice = random.Random(SEED)
    folder.mkdir()
    with (folder / "log.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["observation", "action", "action_prob", "reward"])
        for _ in range(decisions):
            now, action = dice.randrange(ACTIONS), dice.randrange(ACTIONS)
            writer.writerow([json.dumps(situation(now)), action + 1, 1 / ACTIONS, int(action == now)])
    return folder
