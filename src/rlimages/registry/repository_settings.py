"""The settings of new ECR repositories, as `targets.yaml` gives them, and which of their tags may move."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field

from rlimages.config.schema import StrictModel
from rlimages.errors import RegistryError

MAX_FILTERS = 5
"""Exclusion filters that ECR accepts for the tag mutability of a repository (API PutImageTagMutability)."""


class RawEncryption(StrictModel):
    """The key `encryption` of the repository settings: how ECR encrypts a new repository."""

    type: Literal["AES256", "KMS"] = "AES256"
    key: str | None = Field(default=None, description="ARN of a KMS key; by default ECR's own key.")


class RawRepositories(StrictModel):
    """The settings of new ECR repositories in `targets.yaml`. Existing repositories are not changed."""

    immutable: bool = Field(default=True, description="Tags cannot move, except those that `floating` matches.")
    scan_on_push: bool = True
    encryption: RawEncryption = RawEncryption()
    lifecycle: dict[str, Any] | None = Field(default=None, description="A lifecycle policy in ECR's own format.")
    tags: dict[str, str] = Field(default={}, description="AWS resource tags, for cost allocation for example.")


def mutability_arguments(floating: Sequence[str], *, immutable: bool) -> dict[str, Any]:
    """Return the arguments of ECR's CreateRepository that decide which tags of a repository may move.

    If `immutable` is True, only tags that match one of the patterns `floating` may move; if False, all tags. Raise
    `RegistryError` for more patterns than ECR accepts.
    """
    if len(floating) > MAX_FILTERS:
        raise RegistryError(
            f"a repository would have {len(floating)} patterns of tags that may move, and ECR accepts {MAX_FILTERS}; "
            f"use wildcards in the target's `floating`"
        )
    # A pattern that matches every tag leaves none immutable, which ECR calls mutable.
    if not immutable or "*" in floating:
        return {"imageTagMutability": "MUTABLE"}
    if not floating:
        return {"imageTagMutability": "IMMUTABLE"}
    filters = [{"filterType": "WILDCARD", "filter": pattern} for pattern in floating]
    return {
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": filters,
    }


def fold_patterns(
    floating: Iterable[str], immutable: Iterable[str], processors: Sequence[str] = ("cpu", "gpu")
) -> tuple[str, ...]:
    """Return patterns that match all tags of `floating`, which may move: in each tag, a processor's name becomes `*`.

    `processors` are these names. `2-cpu` and `2-gpu` become one pattern, `2-*`, because ECR accepts only `MAX_FILTERS`
    patterns. A tag is kept as it is if its pattern would match a tag of `immutable`, which may not move.
    """
    fixed = tuple(immutable)
    patterns: dict[str, None] = {}
    for tag in floating:
        pattern = "-".join("*" if part in processors else part for part in tag.split("-"))
        patterns[tag if any(fnmatchcase(other, pattern) for other in fixed) else pattern] = None
    return tuple(patterns)
