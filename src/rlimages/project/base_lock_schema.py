"""Pydantic models of `build_matrix.lock.yaml`. `base_lock` is loaded by every command, so it must not import them."""

from typing import Annotated

from pydantic import Field

from rlimages.config.schema import Date, StrictModel

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class RawLockedBase(StrictModel):
    """The entry of one base image."""

    digest: Digest | None
    asked: Date
    unreachable: str | None = None


class RawBaseLock(StrictModel):
    """The whole file."""

    version: int = Field(ge=1, le=1)
    bases: dict[str, RawLockedBase]
