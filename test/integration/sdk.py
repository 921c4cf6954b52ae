"""The SageMaker SDK, which is not among what the other tests need."""

import os
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
        # the SDK wants older packages than ours: scripts/test gives it an environment of its own, and there it must be
        if os.environ.get("RLIMAGES_SDK"):
            pytest.fail(f"the SageMaker SDK 2 is promised here, and there is {version}", pytrace=False)
        pytest.skip(f"did not apply: needs the SageMaker SDK 2, found {version}; pip install '.[sdk]'")


@contextmanager
def quiet() -> Iterator[None]:
    """The SDK, and what it imports, warns of much that is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
