"""The shape of `build_matrix.lock.yaml`, as pydantic models. Apart from `base_lock`, which every command loads."""

from typing import Annotated

from pydantic import Field

from rlimages.config.schema import Date, StrictModel

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class RawLockedBase(StrictModel):
    """What a registry said of one base."""

    digest: Digest | None
    asked: Date
    unreachable: str | None = None


class RawBaseLock(StrictModel):
    """The whole of `build_matrix.lock.yaml`."""

    version: int = Field(ge=1, le=1)
    bases: dict[str, RawLockedBase]
