"""Provide the public names of `sagemaker_rl.vw.launcher` under the module name that training scripts import."""

from sagemaker_rl.vw.launcher import Learner, TrainingError, installed, metadata, train

__all__ = ["Learner", "TrainingError", "installed", "metadata", "train"]
