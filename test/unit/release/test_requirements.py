from pathlib import Path

import pytest

from rlimages.errors import ConfigError, UsageError
from rlimages.release.requirements import Requirements, read_requirements
from rlimages.release.targets import RawEcr, RawScan, RawTarget
from rlimages.supplychain.scan import Severity

ECR = RawEcr(regions=["us-west-2"])
WAIVER = "waivers:\n  - {id: CVE-2026-1, reason: r, owner: o, review_by: 2026-12-31}\n"


def test_a_target_that_says_nothing_asks_nothing(tmp_path) -> None:
    assert read_requirements(RawTarget(ecr=ECR), tmp_path, {}) == Requirements()


def test_a_key_in_a_file_is_named_from_the_projects_root() -> None:
    demands = read_requirements(
        RawTarget(ecr=ECR, sign="keys/cosign.key", sign_password="WORD"), Path("/p"), {"WORD": "w"}
    )
    assert (demands.key.name, demands.key.password) == ("/p/keys/cosign.key", "w")


def test_a_key_of_a_service_is_named_as_it_is() -> None:
    assert (
        read_requirements(RawTarget(ecr=ECR, sign="awskms:///alias/x"), Path("/p"), {}).key.name == "awskms:///alias/x"
    )


def test_a_password_that_is_not_set_is_said_before_anything_is_released(tmp_path) -> None:
    with pytest.raises(UsageError, match="WORD"):
        read_requirements(RawTarget(ecr=ECR, sign="k", sign_password="WORD"), tmp_path, {})


def test_waivers_are_read_from_beside_the_targets(tmp_path) -> None:
    target = RawTarget(ecr=ECR, scan=RawScan(fail_on="low", waivers="waivers.yaml"))
    with pytest.raises(ConfigError, match="there is no such file"):
        read_requirements(target, tmp_path, {})
    (tmp_path / "waivers.yaml").write_text(WAIVER)
    demands = read_requirements(target, tmp_path, {})
    assert demands.fail_on is Severity.LOW
    assert [waiver.id for waiver in demands.waivers] == ["CVE-2026-1"]
