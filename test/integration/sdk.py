"""The SageMaker SDK, which only some integration tests need."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import pytest


def require_sdk() -> None:
    """Skip the test if the SDK 2 is not installed. SDK 3 has no `sagemaker.rl`.

    With the environment variable RLIMAGES_SDK, fail instead.
    """
    try:
        version = metadata.version("sagemaker")
    except metadata.PackageNotFoundError:
        version = "none"
    if not version.startswith("2."):
        # the SDK needs older packages than rlimages: scripts/test installs it in a separate environment and sets RLIMAGES_SDK
        if os.environ.get("RLIMAGES_SDK"):
            pytest.fail(f"RLIMAGES_SDK requires the SageMaker SDK 2, found {version}", pytrace=False)
        pytest.skip(f"did not apply: needs the SageMaker SDK 2, found {version}; pip install '.[sdk]'")


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Ignore warnings of the SDK and its imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
