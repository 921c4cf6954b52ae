"""Provide the public names of `sagemaker_rl.ray.launcher` under the module name that training scripts import."""

from sagemaker_rl.ray.launcher import SageMakerRayLauncher

__all__ = ["SageMakerRayLauncher"]
