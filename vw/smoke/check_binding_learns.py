"""Check that the Python binding learns a contextual bandit, and that the saved model returns the same probabilities.

Each round has one of four kinds of visitor. One of four actions has the reward 1, the others 0. Random actions get 0.25
per round, the best policy with epsilon 0.1 gets 0.925. Required: 0.7 over the last 500 of 2000 rounds.
"""

import os
import random
import sys
import tempfile

from vowpalwabbit import pyvw

ROUNDS, LAST, BOUND = 2000, 500, 0.7
ACTIONS = 4
VISITORS = ("ash", "birch", "cedar", "dogwood")

# The class was renamed in version 9; both names write the same models.
Workspace = getattr(pyvw, "Workspace", None) or pyvw.vw


def pays(visitor, action):
    return 1.0 if action == VISITORS.index(visitor) else 0.0


def policy(model, visitor):
    """Return the probability of each action, in the order of the actions."""
    return list(model.predict("| " + visitor))


def play(model, dice):
    """Play and learn all rounds. Return the mean reward of the last ones."""
    rewards = []
    for _ in range(ROUNDS):
        visitor = dice.choice(VISITORS)
        chances = policy(model, visitor)
        action = dice.choices(range(ACTIONS), chances)[0]
        reward = pays(visitor, action)
        rewards.append(reward)
        model.learn("{}:{}:{} | {}".format(action + 1, 1 - reward, chances[action], visitor))
    return sum(rewards[-LAST:]) / LAST


def main():
    model = Workspace("--cb_explore {} --epsilon 0.1 --quiet".format(ACTIONS))
    reward = play(model, random.Random(7))
    answers = [policy(model, visitor) for visitor in VISITORS]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vw.model")
        model.save(path)
        model.finish()
        loaded = Workspace("-i {} --testonly --quiet".format(path))
        same = [policy(loaded, visitor) for visitor in VISITORS] == answers
        loaded.finish()
    answers = "the same probabilities" if same else "other probabilities"
    learned = "mean reward {:.3f}, required {} (random {})".format(reward, BOUND, 1 / ACTIONS)
    print("{}; the saved model gives {}".format(learned, answers))
    return 0 if reward >= BOUND and same else 1


if __name__ == "__main__":
    sys.exit(main())
