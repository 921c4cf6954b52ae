"""Train PPO on the environment that the image contains."""

from corridor import Corridor
from ray.tune.registry import register_env

from sagemaker_rl.ray_launcher import SageMakerRayLauncher


class Launcher(SageMakerRayLauncher):
    """Train PPO with small batches."""

    def register_env_creator(self):
        """Register the environment under the name that the experiment uses."""
        register_env("corridor", Corridor)

    def get_experiment_config(self):
        """Return the experiment as a dictionary for Tune."""
        return {
            "training": {
                "env": "corridor",
                "run": "PPO",
                "stop": {"training_iteration": 5},
                "config": {
                    "framework": "tf2",
                    "env_config": {"length": 5},
                    "num_workers": 1,
                    "lr": 0.001,
                    "train_batch_size": 400,
                    "sgd_minibatch_size": 64,
                    "num_sgd_iter": 5,
                },
            }
        }


if __name__ == "__main__":
    Launcher.train_main()
