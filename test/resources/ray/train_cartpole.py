"""PPO balances a pole for a few short iterations. Settings have the names of Ray 1; the launcher knows those of today."""

import importlib.util

from sagemaker_rl.ray_launcher import SageMakerRayLauncher

try:
    import gymnasium  # noqa: F401

    ENVIRONMENT = "CartPole-v1"
except ImportError:
    ENVIRONMENT = "CartPole-v0"

FRAMEWORK = "tf" if importlib.util.find_spec("tensorflow") else "torch"


class Launcher(SageMakerRayLauncher):
    """PPO with small batches."""

    def get_experiment_config(self):
        """As a dictionary of Tune's."""
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
