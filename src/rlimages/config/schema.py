"""Pydantic types that the models of several files share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9.]+)*$")]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A date: 2024-03-01.")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class StrictModel(BaseModel):
    """A model that allows no unknown keys and converts no values: `1.10` is not the string "1.10"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
