"""Train PPO on a Unity game: a Linux build called `Basic` in the channel `train`.

    rlimages train unity-1.0.0-tf-cpu-debian --entry-point train.py --source-dir src --channel train=game

The file must be executable before the job starts: a script cannot change it in a read-only channel.
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
    """The game of one worker, with one agent."""

    def __init__(self, settings):
        self._env = UnityToGymWrapper(start(settings.worker_index))
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space

    def reset(self):
        """Start a new episode. Return its first observation."""
        return self._env.reset()

    def step(self, action):
        """Take one action. Return observation, reward, whether the episode ended, and further facts."""
        return self._env.step(action)


def start(worker):
    """Start the game on the first free port at or after the worker's number. Raise RuntimeError if none is free."""
    for number in range(worker, worker + PORTS):
        try:
            return UnityEnvironment(GAME, worker_id=number, no_graphics=True)
        except UnityWorkerInUseException:
            continue
    raise RuntimeError("no free port for %s" % GAME)


class Launcher(SageMakerRayLauncher):
    """Train PPO with small batches."""

    def register_env_creator(self):
        """Register the game under the name that the experiment uses."""
        if not os.access(GAME, os.X_OK):
            raise FileNotFoundError("%s: the game does not exist or is not executable" % GAME)
        register_env("game", Game)

    def get_experiment_config(self):
        """Return the experiment as a dictionary for Tune."""
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
