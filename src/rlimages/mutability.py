"""Which tags of a repository in ECR may move: few patterns for many tags, in the words of CreateRepository."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from rlimages.errors import RegistryError

MAX_FILTERS = 5
"""Exclusion filters that a repository's tag mutability takes (ECR, PutImageTagMutability)."""


def words(floating: Sequence[str], *, immutable: bool) -> dict[str, Any]:
    """The words of CreateRepository for tags that stay, but these. Raises `RegistryError` for more than ECR takes."""
    if len(floating) > MAX_FILTERS:
        raise RegistryError(
            f"a repository would have {len(floating)} patterns of tags that may move, and ECR takes {MAX_FILTERS}; "
            f"say which with wildcards in the target's `floating`"
        )
    if not immutable or "*" in floating:
        return {"imageTagMutability": "MUTABLE"}
    if not floating:
        return {"imageTagMutability": "IMMUTABLE"}
    filters = [{"filterType": "WILDCARD", "filter": pattern} for pattern in floating]
    return {
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": filters,
    }


def fold(tags: Iterable[str], stays: Iterable[str], processors: Sequence[str] = ("cpu", "gpu")) -> tuple[str, ...]:
    """Few patterns for many floating tags: the processor's name becomes `*`, where no tag that stays then matches."""
    kept = tuple(stays)
    patterns: dict[str, None] = {}
    for tag in tags:
        parts = ["*" if part in processors else part for part in tag.split("-")]
        pattern = "-".join(parts)
        patterns[tag if any(fnmatchcase(other, pattern) for other in kept) else pattern] = None
    return tuple(patterns)
