"""Check that Unity's packages can be imported together with Ray's, and fit the installed gym."""

import sys

import gym
import ray
from gym_unity.envs import UnityToGymWrapper
from mlagents_envs.environment import UnityEnvironment
from mlagents_envs.exception import UnityEnvironmentException
from mlagents_envs.registry import default_registry  # noqa: F401


def main():
    """Check the error for a missing game, and the wrapper's base class. Return the exit status."""
    try:
        UnityEnvironment("/nowhere/game", no_graphics=True)
    except UnityEnvironmentException as error:
        said = str(error)
    else:
        said = ""
    if "/nowhere/game" not in said:
        print("starting a missing game gave no error that names it: %r" % said)
        return 1
    if not issubclass(UnityToGymWrapper, gym.Env):
        print("UnityToGymWrapper is not a subclass of the installed gym's Env")
        return 1
    print("ML-Agents works with Ray %s and gym %s" % (ray.__version__, gym.__version__))
    return 0


sys.exit(main())
