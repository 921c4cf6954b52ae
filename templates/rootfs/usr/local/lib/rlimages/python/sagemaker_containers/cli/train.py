"""Provide `main` of the program `train`. Derived Dockerfiles test that it can be imported."""

from sagemaker_training.cli.train import main

__all__ = ["main"]
