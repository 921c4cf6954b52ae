from datetime import date

import pytest

from rlimages.errors import ConfigError, Interrupted, RegistryError
from rlimages.release.targets_file import parse_targets
from rlimages.supplychain.scan import (
    Severity,
    Vulnerability,
    Waiver,
    await_findings,
    evaluate_findings,
    parse_findings,
    parse_waivers,
    scan_lines,
    scan_summary,
    unused_waivers,
)
from rlimages.system.process import Stop

TODAY = date(2026, 11, 21)
HIGH = Vulnerability(id="CVE-2026-1", severity=Severity.HIGH, package="openssl", version="3.0.1", fixed="3.0.2")
LOW = Vulnerability(id="CVE-2026-2", severity=Severity.LOW, package="bash", version="5")
BASIC = {
    "imageScanStatus": {"status": "COMPLETE"},
    "imageScanFindings": {
        "findings": [
            {
                "name": "CVE-2026-1",
                "severity": "HIGH",
                "attributes": [
                    {"key": "package_name", "value": "openssl"},
                    {"key": "package_version", "value": "3.0.1"},
                ],
            }
        ]
    },
}


def enhanced(severity: str = "HIGH", status: str = "ACTIVE") -> dict[str, object]:
    packages = [{"name": "openssl", "version": "3.0.1", "fixedInVersion": "3.0.2"}, {"name": "libssl", "version": "3"}]
    details = {"vulnerabilityId": "CVE-2026-1", "vulnerablePackages": packages}
    finding = {"severity": severity, "status": status, "title": "t", "packageVulnerabilityDetails": details}
    return {"imageScanStatus": {"status": "ACTIVE"}, "imageScanFindings": {"enhancedFindings": [finding]}}


def waiver(id: str = "CVE-2026-1", until: date = TODAY) -> Waiver:
    return Waiver(id=id, reason="not reachable", owner="team@example.com", review_by=until)


def verdict(*found: Vulnerability, waivers: tuple[Waiver, ...] = (), fail_on: Severity = Severity.HIGH):
    return evaluate_findings(found, waivers, fail_on=fail_on, today=TODAY)


def test_a_finding_at_the_threshold_fails() -> None:
    assert verdict(HIGH, LOW).standing == (HIGH,)
    assert not verdict(HIGH).passed


def test_a_finding_below_the_threshold_is_counted() -> None:
    told = verdict(LOW)
    assert told.passed
    assert told.counts[Severity.LOW] == 1


def test_the_worst_comes_first() -> None:
    assert verdict(LOW, HIGH, fail_on=Severity.LOW).standing == (HIGH, LOW)


def test_a_waiver_holds_on_its_last_day() -> None:
    told = verdict(HIGH, waivers=(waiver(),))
    assert told.passed
    assert told.waived == ((HIGH, waiver()),)


def test_a_waiver_past_its_date_waives_nothing() -> None:
    late = waiver(until=date(2026, 11, 20))
    told = verdict(HIGH, waivers=(late,))
    assert not told.passed
    assert list(scan_lines(told)) == [
        "CVE-2026-1 (high) in openssl 3.0.1, mended in 3.0.2; team@example.com accepted it until 2026-11-20: review it"
    ]


def test_a_waiver_for_nothing_that_was_found_is_reported() -> None:
    (line,) = unused_waivers([waiver("CVE-2020-9"), waiver()], [HIGH, LOW])
    assert line == "not found in any image, so needs no waiver: CVE-2020-9 (team@example.com, until 2026-11-21)"


def test_a_verdict_has_a_line_for_itself_and_one_for_each_finding_that_matters() -> None:
    told = verdict(HIGH, LOW, waivers=(waiver(),))
    assert scan_summary(told) == "2 findings (1 high, 1 low); 0 stand in the way, 1 are waived"
    assert list(scan_lines(told)) == [f"waived: {HIGH}: not reachable (team@example.com, until 2026-11-21)"]
    assert scan_summary(verdict()) == "nothing found"


def test_a_basic_finding_names_the_package() -> None:
    (found,) = parse_findings(BASIC)
    assert (found.id, found.severity, found.package, found.version) == ("CVE-2026-1", Severity.HIGH, "openssl", "3.0.1")


def test_an_enhanced_finding_counts_for_each_package() -> None:
    assert [(found.package, found.fixed) for found in parse_findings(enhanced())] == [
        ("openssl", "3.0.2"),
        ("libssl", ""),
    ]


def test_what_inspector_suppresses_is_no_finding() -> None:
    assert parse_findings(enhanced(status="SUPPRESSED")) == ()


def test_a_severity_that_nobody_gave_is_counted_and_fails_nothing() -> None:
    told = evaluate_findings(parse_findings(enhanced("UNTRIAGED")), (), fail_on=Severity.INFORMATIONAL, today=TODAY)
    assert told.passed
    assert told.counts[Severity.UNDEFINED] == 2


WAIVERS = """\
waivers:
  - id: CVE-2026-1
    reason: the code is not reachable
    owner: team@example.com
    review_by: 2026-12-31
"""


def test_waivers_are_read() -> None:
    (told,) = parse_waivers(WAIVERS)
    assert told.review_by == date(2026, 12, 31)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WAIVERS.replace("owner", "ownr"), "waivers.yaml:4:5: waivers[0].ownr: unknown key; did you mean 'owner'?"),
        (
            WAIVERS.replace("    owner: team@example.com\n", ""),
            "waivers.yaml:2:5: waivers[0]: the key 'owner' is missing",
        ),
        (
            WAIVERS.replace("2026-12-31", "2026-13-31"),
            "waivers.yaml:5:16: waivers[0].review_by: '2026-13-31' is no day",
        ),
        (WAIVERS.replace("2026-12-31", "soon"), "waivers.yaml:5:16: waivers[0].review_by: 'soon' is not of the form"),
        (WAIVERS + WAIVERS.partition("\n")[2], "waivers.yaml:6:9: waivers[1].id: 'CVE-2026-1' is waived twice"),
    ],
)
def test_a_mistake_in_the_waivers_is_told_with_its_place(text, message) -> None:
    with pytest.raises(ConfigError) as told:
        parse_waivers(text)
    assert message in str(told.value)


TARGETS = """\
version: 1
targets:
  production:
    ecr: {regions: [us-west-2]}
    sign: awskms:///alias/release
    scan: {fail_on: medium, waivers: waivers.yaml}
"""


def test_a_target_says_what_fails_and_where_the_waivers_are() -> None:
    scan = parse_targets(TARGETS).find("production").scan
    assert Severity[scan.fail_on.upper()] is Severity.MEDIUM
    assert scan.waivers == "waivers.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TARGETS.replace("medium", "mediun"), "'mediun' is not one of critical, high, medium, low, informational"),
        (TARGETS.replace("ecr: {regions: [us-west-2]}", "registry: 127.0.0.1:5000"), "scan: only ECR scans"),
        (TARGETS.replace("sign: awskms:///alias/release", "sign_password: WORD"), "this is the password of a key, but 'sign' is missing"),
    ],
)
def test_a_target_that_cannot_scan_or_sign_is_refused(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_targets(text)


class Scanner:
    """Answers in this order, the last one again and again."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.begun = 0

    def ask(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def begin(self) -> None:
        self.begun += 1


class Patient(Stop().__class__):
    """Time flies."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0
        return self.is_set()


def going(status: str) -> dict[str, object]:
    return {"imageScanStatus": {"status": status, "description": "because"}}


def test_a_scan_is_begun_where_none_was_and_awaited() -> None:
    scanner = Scanner(None, None, going("IN_PROGRESS"), going("PENDING"), BASIC)
    assert len(await_findings(scanner.ask, scanner.begin, "x", stop=Patient())) == 1
    assert scanner.begun == 1


def test_a_scan_that_was_done_is_not_begun_again() -> None:
    scanner = Scanner(enhanced())
    assert len(await_findings(scanner.ask, scanner.begin, "x", stop=Patient())) == 2
    assert scanner.begun == 0


def test_a_scan_is_awaited_so_long_and_no_longer() -> None:
    stop = Patient()
    with pytest.raises(RegistryError, match="x: its scan is IN_PROGRESS after 60 s"):
        await_findings(Scanner(going("IN_PROGRESS")).ask, lambda: None, "x", stop=stop, patience=60.0)
    assert stop.waited == 60.0


@pytest.mark.parametrize("status", ["FAILED", "UNSUPPORTED_IMAGE", "SCAN_ELIGIBILITY_EXPIRED", "SOMETHING_NEW"])
def test_what_cannot_be_scanned_does_not_pass(status) -> None:
    with pytest.raises(RegistryError, match=f"x was not scanned: {status}: because"):
        await_findings(Scanner(going(status)).ask, lambda: None, "x", stop=Patient())


def test_waiting_for_a_scan_can_be_interrupted() -> None:
    stop = Patient()
    stop.set()
    with pytest.raises(Interrupted):
        await_findings(Scanner(going("PENDING")).ask, lambda: None, "x", stop=stop)
