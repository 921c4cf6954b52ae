"""Provide the API of sagemaker_containers in images that have only its successor, sagemaker_training.

Scripts and derived Dockerfiles still import it. This folder is last on the path, so an installed sagemaker_containers
takes precedence. The serving modules are missing, because sagemaker_training has none.
"""


def training_env():
    """Return the environment of this training job, as sagemaker_training's Environment."""
    from sagemaker_training import environment

    return environment.Environment()
