"""Train the preset that the hyperparameter RLCOACH_PRESET names."""

from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher


class Launcher(SageMakerCoachPresetLauncher):
    """All by its hyperparameters."""

    def default_preset_name(self):
        """Coach's own, which the tests do not use."""
        return "CartPole_DQN"


if __name__ == "__main__":
    Launcher.train_main()
