"""The names of sagemaker_containers that scripts and derived Dockerfiles use, for images that have its successor.

Last on the path: a real sagemaker_containers goes before it. Serving, which the successor does not offer, is not here.
"""


def training_env():
    """The environment of this training job, as sagemaker_training reads it."""
    from sagemaker_training import environment

    return environment.Environment()
