"""PPO plays a Unity game: a Linux build of it, called `Basic`, in the channel `train`.

    rlimages train unity-1.0.0-tf-cpu-debian --entry-point train.py --source-dir src --channel train=game

A game that is not executable can't be made so where channels are read-only, as they are on this machine.
"""

import os

import gym
from gym_unity.envs import UnityToGymWrapper
from mlagents_envs.environment import UnityEnvironment
from mlagents_envs.exception import UnityWorkerInUseException
from ray.tune.registry import register_env

from sagemaker_rl.ray_launcher import SageMakerRayLauncher

GAME = os.path.join(os.environ.get("SM_CHANNEL_TRAIN", "."), "Basic")
PORTS = 100


class Game(gym.Env):
    """One game with one agent, beside those of the other workers."""

    def __init__(self, settings):
        self._env = UnityToGymWrapper(start(settings.worker_index))
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space

    def reset(self):
        """The first observation."""
        return self._env.reset()

    def step(self, action):
        """Observation, reward, end, and what else the game says."""
        return self._env.step(action)


def start(worker):
    """Start the game on a port of its own."""
    for number in range(worker, worker + PORTS):
        try:
            return UnityEnvironment(GAME, worker_id=number, no_graphics=True)
        except UnityWorkerInUseException:
            continue
    raise RuntimeError("no free port for %s" % GAME)


class Launcher(SageMakerRayLauncher):
    """PPO with small batches."""

    def register_env_creator(self):
        """By the name that the experiment uses."""
        if not os.access(GAME, os.X_OK):
            raise FileNotFoundError("%s: there is no such game, or it is not executable" % GAME)
        register_env("game", Game)

    def get_experiment_config(self):
        """As a dictionary of Tune's."""
        return {
            "training": {
                "env": "game",
                "run": "PPO",
                "stop": {"timesteps_total": 10000},
                "config": {
                    "framework": "tf",
                    "gamma": 0.995,
                    "lr": 0.0001,
                    "sgd_minibatch_size": 100,
                    "train_batch_size": 500,
                    "num_workers": max(1, self.num_cpus - 1),
                },
            }
        }


if __name__ == "__main__":
    Launcher.train_main()
