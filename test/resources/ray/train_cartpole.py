"""Train CartPole with PPO for a few short iterations. The launcher translates the setting names of Ray 1."""

import importlib.util

from sagemaker_rl.ray_launcher import SageMakerRayLauncher

try:
    import gymnasium  # noqa: F401

    ENVIRONMENT = "CartPole-v1"
except ImportError:
    ENVIRONMENT = "CartPole-v0"

FRAMEWORK = "tf" if importlib.util.find_spec("tensorflow") else "torch"


class Launcher(SageMakerRayLauncher):
    """A launcher for PPO with small batches."""

    def get_experiment_config(self):
        """Return the experiment as a dictionary for Tune."""
        return {
            "training": {
                "env": ENVIRONMENT,
                "run": "PPO",
                "stop": {"training_iteration": 5},
                "config": {
                    "framework": FRAMEWORK,
                    "lr": 0.01,
                    "num_workers": 1,
                    "num_sgd_iter": 2,
                    "sgd_minibatch_size": 64,
                    "train_batch_size": 400,
                },
            }
        }


if __name__ == "__main__":
    Launcher.train_main()
