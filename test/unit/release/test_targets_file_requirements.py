import pytest

from rlimages.errors import ConfigError
from rlimages.release.targets_file import parse_targets
from rlimages.supplychain.scan import Severity

TARGETS = """\
version: 1
targets:
  production:
    ecr: {regions: [us-west-2]}
    sign: awskms:///alias/release
    scan: {fail_on: medium, waivers: waivers.yaml}
"""


def test_a_target_has_the_threshold_and_the_file_of_the_waivers() -> None:
    scan = parse_targets(TARGETS).find("production").scan
    assert Severity[scan.fail_on.upper()] is Severity.MEDIUM
    assert scan.waivers == "waivers.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TARGETS.replace("medium", "mediun"), "'mediun' is not one of critical, high, medium, low, informational"),
        (TARGETS.replace("ecr: {regions: [us-west-2]}", "registry: 127.0.0.1:5000"), "scan: only ECR scans"),
        (
            TARGETS.replace("sign: awskms:///alias/release", "sign_password: WORD"),
            "this is the password of a key, but 'sign' is missing",
        ),
    ],
)
def test_a_target_that_cannot_scan_or_sign_is_refused(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_targets(text)
