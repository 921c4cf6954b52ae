"""The modules of a training job under the names that sagemaker_containers gave them."""

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
    """The environment of this training job; what is given replaces what its files say."""
    return env.Environment(resource_config, input_data_config, hyperparameters)
