"""The tags of a new ECR repository cannot move, except the floating ones."""

import pytest

from rlimages.errors import RegistryError
from rlimages.registry.repository_settings import MAX_FILTERS, fold_patterns, mutability_arguments


def test_floating_patterns_are_excluded_from_the_immutability() -> None:
    assert mutability_arguments(["ray-*"], immutable=True) == {
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "ray-*"}],
    }


@pytest.mark.parametrize(
    ("floating", "immutable", "mutability"),
    [([], True, "IMMUTABLE"), (["*"], True, "MUTABLE"), (["ray-*"], False, "MUTABLE"), ([], False, "MUTABLE")],
)
def test_a_repository_is_all_immutable_or_all_mutable_without_patterns(floating, immutable, mutability) -> None:
    assert mutability_arguments(floating, immutable=immutable) == {"imageTagMutability": mutability}


def test_more_patterns_than_ecr_accepts_are_an_error_with_a_remedy() -> None:
    floating = [f"tag-{number}" for number in range(MAX_FILTERS + 1)]
    with pytest.raises(RegistryError, match="6 patterns of tags that may move, and ECR accepts 5; use wildcards"):
        mutability_arguments(floating, immutable=True)


def test_floating_tags_that_differ_in_the_processor_become_one_pattern() -> None:
    assert fold_patterns(["2-cpu-py3", "2-gpu-py3", "vw"], ["2.0-cpu-py3"]) == ("2-*-py3", "vw")


def test_a_floating_tag_whose_pattern_would_match_an_immutable_tag_is_kept() -> None:
    assert fold_patterns(["2-cpu", "2-gpu"], ["2-cpu-debian"]) == ("2-cpu", "2-gpu")
