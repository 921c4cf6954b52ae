"""Unity's packages import beside Ray's, and fit the gym that is here."""

import sys

import gym
import ray
from gym_unity.envs import UnityToGymWrapper
from mlagents_envs.environment import UnityEnvironment
from mlagents_envs.exception import UnityEnvironmentException
from mlagents_envs.registry import default_registry  # noqa: F401


def main():
    """Miss a game that is not there."""
    try:
        UnityEnvironment("/nowhere/game", no_graphics=True)
    except UnityEnvironmentException as error:
        said = str(error)
    else:
        said = ""
    if "/nowhere/game" not in said:
        print("a game that is not there is not missed: %r" % said)
        return 1
    if not issubclass(UnityToGymWrapper, gym.Env):
        print("UnityToGymWrapper is no environment of this gym")
        return 1
    print("ML-Agents beside Ray %s and gym %s" % (ray.__version__, gym.__version__))
    return 0


sys.exit(main())
