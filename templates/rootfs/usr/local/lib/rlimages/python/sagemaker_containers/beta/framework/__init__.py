"""Provide the modules of sagemaker_training under the names that sagemaker_containers gives them."""

from sagemaker_training import (
    content_types,
    encoders,
    entry_point,
    errors,
    files,
    functions,
    mapping,
    modules,
    mpi,
    params,
    process,
    runner,
    trainer,
)
from sagemaker_training import environment as env
from sagemaker_training import logging_config as logging

__all__ = [
    "content_types",
    "encoders",
    "entry_point",
    "env",
    "errors",
    "files",
    "functions",
    "logging",
    "mapping",
    "modules",
    "mpi",
    "params",
    "process",
    "runner",
    "trainer",
    "training_env",
]


def training_env(resource_config=None, input_data_config=None, hyperparameters=None):
    """Return the environment of this training job, as sagemaker_training's Environment.

    `resource_config`, `input_data_config` and `hyperparameters` are dictionaries that replace the content of the files
    of these names; None reads the file.
    """
    return env.Environment(resource_config, input_data_config, hyperparameters)
