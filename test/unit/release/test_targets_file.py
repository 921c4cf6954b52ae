"""`targets.yaml`: its defaults, and its mistakes with their positions."""

import pytest

from rlimages.errors import ConfigError, SelectionError
from rlimages.release.targets_file import RawTarget, parse_targets

TEAM = "version: 1\ntargets:\n  team:\n    registry: 127.0.0.1:5000/rl\n"


def test_a_target_needs_only_a_registry() -> None:
    target = parse_targets(TEAM).find("team")
    assert target == RawTarget(registry="127.0.0.1:5000/rl")
    assert (target.accept, target.floating, target.promote_from) == (["sagemaker-training"], None, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "    registry: a\n    ecr: {regions: [us-west-2]}\n",
            "4:5: targets.team: a target has either 'registry' or 'ecr'",
        ),
        (
            "    registry: a\n    prefix: b\n",
            "5:13: targets.team.prefix: write the prefix behind the registry: host/prefix",
        ),
        ("    registry: a\n    scan: {}\n", "5:11: targets.team.scan: only ECR scans: this target has no 'ecr'"),
        (
            "    registry: a\n    promote_from: tema\n",
            "5:19: targets.team.promote_from: there is no target 'tema'; did you mean 'team'?",
        ),
        (
            "    registry: a\n    promote_from: team\n",
            "5:19: targets.team.promote_from: a target can't be promoted from itself",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_position(text, problem) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_targets(f"version: 1\ntargets:\n  team:\n{text}")
    assert f"targets.yaml:{problem}" in str(raised.value)


def test_an_unknown_target_is_an_error_that_names_the_most_similar_one() -> None:
    with pytest.raises(SelectionError, match=r"^there is no target 'tema'; did you mean 'team'\?$"):
        parse_targets(TEAM).find("tema")
    with pytest.raises(SelectionError, match=r"^there is no target 'x'; targets\.yaml has team$"):
        parse_targets(TEAM).find("x")
