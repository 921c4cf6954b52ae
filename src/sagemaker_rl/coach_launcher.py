"""Provide the public names of `sagemaker_rl.coach.launcher` under the module name that training scripts import."""

from sagemaker_rl.coach.launcher import SageMakerCoachPresetLauncher

__all__ = ["SageMakerCoachPresetLauncher"]
