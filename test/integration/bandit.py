"""Generate logged decisions of a contextual bandit: four observations, and for each one of four actions pays."""

import csv
import json
import random
from pathlib import Path

ACTIONS = 4
SEED = 7


def observation(number: int) -> list[float]:
    """Return the observation in which an action pays: a vector with 1 at the index of the action."""
    return [float(index == number) for index in range(ACTIONS)]


def write_log(folder: Path, decisions: int) -> Path:
    """Write a channel with random decisions and return it: observation, action from 1, its probability, reward."""
    generator = random.Random(SEED)
    folder.mkdir()
    with (folder / "log.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["observation", "action", "action_prob", "reward"])
        for _ in range(decisions):
            paying_action, action = generator.randrange(ACTIONS), generator.randrange(ACTIONS)
            writer.writerow(
                [json.dumps(observation(paying_action)), action + 1, 1 / ACTIONS, int(action == paying_action)]
            )
    return folder
