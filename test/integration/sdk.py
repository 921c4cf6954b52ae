"""The SageMaker SDK, which is not among what the other tests need."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import pytest


def need() -> None:
    """Skip the test, with its reason, where there is no SDK, or one without `sagemaker.rl` (3.0)."""
    try:
        version = metadata.version("sagemaker")
    except metadata.PackageNotFoundError:
        version = "none"
    if not version.startswith("2."):
        pytest.skip(f"did not apply: needs the SageMaker SDK 2, found {version}; pip install '.[sdk]'")


@contextmanager
def quiet() -> Iterator[None]:
    """The SDK, and what it imports, warns of much that is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
