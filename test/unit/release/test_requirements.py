from pathlib import Path

import pytest

from rlimages.errors import ConfigError, UsageError
from rlimages.release.requirements import TargetRequirements, read_requirements
from rlimages.release.targets_file import RawEcr, RawScan, RawTarget
from rlimages.supplychain.scan import Severity

ECR = RawEcr(regions=["us-west-2"])
WAIVER = "waivers:\n  - {id: CVE-2026-1, reason: r, owner: o, review_by: 2026-12-31}\n"


def test_a_target_without_keys_for_it_requires_nothing(tmp_path) -> None:
    assert read_requirements(RawTarget(ecr=ECR), tmp_path, {}) == TargetRequirements()


def test_a_key_file_is_looked_up_in_the_folder_of_the_targets() -> None:
    requirements = read_requirements(
        RawTarget(ecr=ECR, sign="keys/cosign.key", sign_password="WORD"), Path("/p"), {"WORD": "w"}
    )
    assert (requirements.key.name, requirements.key.password) == ("/p/keys/cosign.key", "w")


def test_the_uri_of_a_key_is_not_changed() -> None:
    assert (
        read_requirements(RawTarget(ecr=ECR, sign="awskms:///alias/x"), Path("/p"), {}).key.name == "awskms:///alias/x"
    )


def test_a_password_that_is_not_in_the_environment_is_an_error(tmp_path) -> None:
    with pytest.raises(UsageError, match="WORD"):
        read_requirements(RawTarget(ecr=ECR, sign="k", sign_password="WORD"), tmp_path, {})


def test_waivers_are_looked_up_in_the_folder_of_the_targets(tmp_path) -> None:
    target = RawTarget(ecr=ECR, scan=RawScan(fail_on="low", waivers="waivers.yaml"))
    with pytest.raises(ConfigError, match=r"there is no such file; `scan\.waivers` of the target names it"):
        read_requirements(target, tmp_path, {})
    (tmp_path / "waivers.yaml").write_text(WAIVER)
    requirements = read_requirements(target, tmp_path, {})
    assert requirements.fail_on is Severity.LOW
    assert [waiver.id for waiver in requirements.waivers] == ["CVE-2026-1"]
