"""Check that the corridor is a valid gymnasium environment, has an end, and can be drawn."""

import sys

from corridor import RIGHT, Corridor
from gymnasium.utils.env_checker import check_env


def main():
    """Validate the environment, then walk to its end. Return the exit status."""
    check_env(Corridor({"length": 4}), skip_render_check=True)
    walk = Corridor({"length": 4}, render_mode="rgb_array")
    walk.reset()
    rewards, there = [], False
    while not there:
        _, reward, there, _, _ = walk.step(RIGHT)
        rewards.append(reward)
    if len(rewards) != 4 or rewards[-1] != 1.0:
        print("the walk gave the rewards %r, not four with 1.0 as the last" % rewards)
        return 1
    print("a corridor of 4 tiles gives %.1f, drawn as %d x %d pixels" % (sum(rewards), *walk.render().shape[:2]))
    return 0


sys.exit(main())
