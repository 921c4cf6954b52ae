"""Pydantic types that the schemas of several configuration files (build matrix, targets, acceptance rules) share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9.]+)*$")]
"""The name of something that a file declares, such as a toolkit or a target: lower-case words with hyphens."""
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A date: 2024-03-01.")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class StrictModel(BaseModel):
    """A pydantic model that allows no unknown keys, converts no values, and cannot be changed.

    A key of type `str` refuses the YAML number `1.10`: it is 1.1, and not the version "1.10" that was meant.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
