from datetime import date

import pytest

from rlimages.errors import ConfigError, Interrupted, RegistryError
from rlimages.supplychain.scan import (
    Severity,
    Vulnerability,
    Waiver,
    await_scan,
    evaluate_scan,
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


def evaluate(*found: Vulnerability, waivers: tuple[Waiver, ...] = (), fail_on: Severity = Severity.HIGH):
    return evaluate_scan(found, waivers, fail_on=fail_on, today=TODAY)


def test_a_vulnerability_at_the_threshold_is_blocking() -> None:
    assert evaluate(HIGH, LOW).blocking == (HIGH,)
    assert not evaluate(HIGH).passed


def test_a_vulnerability_below_the_threshold_is_only_counted() -> None:
    result = evaluate(LOW)
    assert result.passed
    assert result.counts[Severity.LOW] == 1


def test_the_most_severe_vulnerability_comes_first() -> None:
    assert evaluate(LOW, HIGH, fail_on=Severity.LOW).blocking == (HIGH, LOW)


def test_a_waiver_is_valid_on_its_last_day() -> None:
    result = evaluate(HIGH, waivers=(waiver(),))
    assert result.passed
    assert result.waived == ((HIGH, waiver()),)


def test_a_waiver_past_its_date_waives_nothing() -> None:
    late = waiver(until=date(2026, 11, 20))
    result = evaluate(HIGH, waivers=(late,))
    assert not result.passed
    assert list(scan_lines(result)) == [
        "CVE-2026-1 (high) in openssl 3.0.1, fixed in 3.0.2; team@example.com accepted it until 2026-11-20: review it"
    ]


def test_an_unused_waiver_is_reported() -> None:
    (line,) = unused_waivers([waiver("CVE-2020-9"), waiver()], [HIGH, LOW])
    assert line == "no image has CVE-2020-9; remove its waiver (team@example.com, until 2026-11-21)"


def test_a_result_is_shown_in_one_line_and_one_more_for_each_blocking_or_waived_vulnerability() -> None:
    result = evaluate(HIGH, LOW, waivers=(waiver(),))
    assert scan_summary(result) == "2 findings (1 high, 1 low); 0 blocking, 1 waived"
    assert list(scan_lines(result)) == [f"waived: {HIGH}: not reachable (team@example.com, until 2026-11-21)"]
    assert scan_summary(evaluate()) == "no findings"


def test_a_basic_finding_has_its_package_and_version() -> None:
    (found,) = parse_findings(BASIC)
    assert (found.id, found.severity, found.package, found.version) == ("CVE-2026-1", Severity.HIGH, "openssl", "3.0.1")


def test_an_enhanced_finding_is_one_vulnerability_for_each_package() -> None:
    assert [(found.package, found.fixed) for found in parse_findings(enhanced())] == [
        ("openssl", "3.0.2"),
        ("libssl", ""),
    ]


def test_a_finding_that_inspector_suppresses_does_not_count() -> None:
    assert parse_findings(enhanced(status="SUPPRESSED")) == ()


def test_an_unrated_vulnerability_is_counted_and_not_blocking() -> None:
    result = evaluate_scan(parse_findings(enhanced("UNTRIAGED")), (), fail_on=Severity.INFORMATIONAL, today=TODAY)
    assert result.passed
    assert result.counts[Severity.UNDEFINED] == 2


WAIVERS = """\
waivers:
  - id: CVE-2026-1
    reason: the code is not reachable
    owner: team@example.com
    review_by: 2026-12-31
"""


def test_waivers_are_read() -> None:
    (waiver,) = parse_waivers(WAIVERS)
    assert waiver.review_by == date(2026, 12, 31)


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
            "waivers.yaml:5:16: waivers[0].review_by: '2026-13-31' is not a day",
        ),
        (WAIVERS.replace("2026-12-31", "soon"), "waivers.yaml:5:16: waivers[0].review_by: 'soon' is not of the form"),
        (WAIVERS + WAIVERS.partition("\n")[2], "waivers.yaml:6:9: waivers[1].id: 'CVE-2026-1' is waived twice"),
    ],
)
def test_a_mistake_in_the_waivers_is_reported_with_its_position(text, message) -> None:
    with pytest.raises(ConfigError) as error:
        parse_waivers(text)
    assert message in str(error.value)


class Scanner:
    """Gives these answers in this order, and repeats the last one."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.started = 0

    def fetch(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def start(self) -> None:
        self.started += 1


class InstantStop(Stop().__class__):
    """A stop signal whose waits return at once and are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0
        return self.is_set()


def unfinished(status: str) -> dict[str, object]:
    return {"imageScanStatus": {"status": status, "description": "because"}}


def test_a_missing_scan_is_started_once_and_awaited() -> None:
    scanner = Scanner(None, None, unfinished("IN_PROGRESS"), unfinished("PENDING"), BASIC)
    assert len(await_scan(scanner.fetch, scanner.start, "x", stop=InstantStop())) == 1
    assert scanner.started == 1


def test_a_finished_scan_is_not_started_again() -> None:
    scanner = Scanner(enhanced())
    assert len(await_scan(scanner.fetch, scanner.start, "x", stop=InstantStop())) == 2
    assert scanner.started == 0


def test_a_scan_that_is_not_finished_in_time_is_an_error() -> None:
    stop = InstantStop()
    with pytest.raises(RegistryError, match="x: its scan is IN_PROGRESS after 60 s"):
        await_scan(Scanner(unfinished("IN_PROGRESS")).fetch, lambda: None, "x", stop=stop, timeout=60.0)
    assert stop.waited == 60.0


@pytest.mark.parametrize("status", ["FAILED", "UNSUPPORTED_IMAGE", "SCAN_ELIGIBILITY_EXPIRED", "SOMETHING_NEW"])
def test_an_image_that_cannot_be_scanned_is_an_error(status) -> None:
    with pytest.raises(RegistryError, match=f"x was not scanned: {status}: because"):
        await_scan(Scanner(unfinished(status)).fetch, lambda: None, "x", stop=InstantStop())


def test_waiting_for_a_scan_can_be_interrupted() -> None:
    stop = InstantStop()
    stop.set()
    with pytest.raises(Interrupted):
        await_scan(Scanner(unfinished("PENDING")).fetch, lambda: None, "x", stop=stop)
