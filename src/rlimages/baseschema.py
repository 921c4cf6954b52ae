"""The shape of `build_matrix.lock.yaml`."""

from typing import Annotated

from pydantic import Field

from rlimages.schema import Date, Strict

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class RawAsked(Strict):
    """What a registry said of one base."""

    digest: Digest | None
    asked: Date
    unreachable: str | None = None


class RawBaseLock(Strict):
    """The whole of `build_matrix.lock.yaml`."""

    version: int = Field(ge=1, le=1)
    bases: dict[str, RawAsked]
