"""The Python binding learns a contextual bandit, and a saved model answers as the one that learned.

In each round one of four kinds of visitor comes and one of four actions pays 1, the others 0. Chance earns 0.25 a
round, with epsilon 0.1 the best policy 0.925. Asked for: 0.7 over the last 500 of 2000 rounds.
"""

import os
import random
import sys
import tempfile

from vowpalwabbit import pyvw

ROUNDS, LAST, BOUND = 2000, 500, 0.7
ACTIONS = 4
VISITORS = ("ash", "birch", "cedar", "dogwood")

# The class was renamed in version 9; both write the same models.
Workspace = getattr(pyvw, "Workspace", None) or pyvw.vw


def pays(visitor, action):
    return 1.0 if action == VISITORS.index(visitor) else 0.0


def policy(model, visitor):
    """Probability of each action, in their order."""
    return list(model.predict("| " + visitor))


def play(model, dice):
    """The mean reward of the last rounds."""
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
    answers = "the same" if same else "differently"
    learned = "mean reward {:.3f}, asked for {} (chance {})".format(reward, BOUND, 1 / ACTIONS)
    print("{}; the saved model answers {}".format(learned, answers))
    return 0 if reward >= BOUND and same else 1


if __name__ == "__main__":
    sys.exit(main())
