"""Train the preset that the hyperparameter RLCOACH_PRESET names."""

from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher


class Launcher(SageMakerCoachPresetLauncher):
    """A launcher that takes all settings from hyperparameters."""

    def default_preset_name(self):
        """Return the default preset. The tests replace it with a hyperparameter."""
        return "CartPole_DQN"


if __name__ == "__main__":
    Launcher.train_main()
