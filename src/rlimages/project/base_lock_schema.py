"""Define the format of `build_matrix.lock.yaml` as Pydantic models.

They are apart from the module `base_lock`, because every command loads that, and importing Pydantic takes long.
"""

from typing import Annotated

from pydantic import Field

from rlimages.config.schema import Date, StrictModel

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A digest with its algorithm, `sha256:…`."""


class RawLockedBase(StrictModel):
    """The entry of one base image in the file; the meaning of its keys is that of `LockedBase`."""

    digest: Digest | None
    asked: Date
    unreachable: str | None = None


class RawBaseLock(StrictModel):
    """The whole content of `build_matrix.lock.yaml`."""

    version: int = Field(ge=1, le=1)
    bases: dict[str, RawLockedBase]
