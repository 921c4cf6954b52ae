"""Decide whether the findings of ECR's scanner stop a release, by a severity threshold and the project's waivers.

The findings have one of two formats: that of ECR's basic scanner, which scans once, or that of Amazon Inspector
(enhanced scanning), which scans again when new vulnerabilities become known.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Any

from pydantic import Field

from rlimages.config.schema import Date, StrictModel
from rlimages.config.validation import validate_document
from rlimages.config.yaml import config_error, load_yaml
from rlimages.errors import Interrupted, RegistryError
from rlimages.system.process import Stop

WAIVERS_FILE = "waivers.yaml"
"""Name of the file of a project that lists the vulnerabilities that somebody accepted."""
SCAN_TIMEOUT = 900.0
"""Seconds that a scan may take. Amazon Inspector needs minutes for an image of some GB."""
# Seconds. The pause between two requests grows, so that a scan of several minutes causes few requests.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 30.0
_PAUSE_FACTOR = 1.5
_DONE = ("COMPLETE", "ACTIVE")
"""Status of a scan with findings. A basic scan completes; an enhanced one stays active, and its findings may change."""
_UNFINISHED = ("IN_PROGRESS", "PENDING", "FINDINGS_UNAVAILABLE")
FetchScan = Callable[[], Mapping[str, Any] | None]
"""Function that returns ECR's answer to DescribeImageScanFindings for one image; None if no scan was started.

The findings of all pages are joined.
"""


class Severity(IntEnum):
    """The severity of a vulnerability, as the scanner states it."""

    UNDEFINED = 0
    """Also for UNTRIAGED: nobody has rated it yet. No threshold is this low, so it stops no release."""
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def label(self) -> str:
        """The severity in lower case, as in `targets.yaml` and in messages: `high`."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Vulnerability:
    """A vulnerability that a scanner found in one package of an image."""

    id: str
    """`CVE-2024-3094`, or another name that the scanner gives the vulnerability."""
    severity: Severity
    package: str
    """Name of the package; `?` if the scanner does not state it."""
    version: str
    """Installed version of the package; `?` if the scanner does not state it."""
    fixed: str = ""
    """Version of the package that fixes the vulnerability; empty if the scanner knows none."""

    def __str__(self) -> str:
        """Return the vulnerability in one phrase, for people."""
        fixed = f", fixed in {self.fixed}" if self.fixed else ""
        return f"{self.id} ({self.severity.label}) in {self.package} {self.version}{fixed}"


class RawWaiver(StrictModel):
    """A waiver as it is written in `waivers.yaml`; its date is still text."""

    id: str = Field(pattern=r"^[A-Z0-9][A-Za-z0-9.:_-]+$", description="Name given by the scanner: CVE-2024-3094.")
    reason: str = Field(min_length=1)
    owner: str = Field(min_length=1, description="Who accepts the vulnerability.")
    review_by: Date


class RawWaivers(StrictModel):
    """The content of `waivers.yaml`: the list of waivers."""

    waivers: list[RawWaiver]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiver:
    """The acceptance of one vulnerability, in all packages and images, until a date."""

    id: str
    """Id of the vulnerability, as the scanner states it."""
    reason: str
    """Reason why the vulnerability is accepted."""
    owner: str
    """Person or team who accepted the vulnerability."""
    review_by: date
    """The last day on which the waiver is valid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanResult:
    """The vulnerabilities of one image, compared with the threshold and the waivers."""

    blocking: tuple[Vulnerability, ...]
    """Vulnerabilities that stop the release: at the threshold or above it, and not waived. The most severe is first."""
    waived: tuple[tuple[Vulnerability, Waiver], ...]
    """Vulnerabilities with a valid waiver, of any severity."""
    expired: tuple[tuple[Vulnerability, Waiver], ...]
    """Vulnerabilities whose waiver is no longer valid, because its date has passed; of any severity."""
    counts: Mapping[Severity, int]
    """Number of all vulnerabilities by severity, also of those that are waived or below the threshold."""

    @property
    def passed(self) -> bool:
        """Return whether no vulnerability stops the release."""
        return not self.blocking


def parse_waivers(text: str, name: str = WAIVERS_FILE) -> tuple[Waiver, ...]:
    """Return the waivers in `text`, the content of `waivers.yaml`; `name` is the name of the file in messages.

    Raises `ConfigError` that lists all mistakes with line and column.
    """
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawWaivers)
    waivers: dict[str, Waiver] = {}
    problems = []
    for number, entry in enumerate(raw.waivers):
        path = ("waivers", number)
        if entry.id in waivers:
            problems.append(document.problem((*path, "id"), f"'{entry.id}' is waived twice"))
        try:
            day = date.fromisoformat(entry.review_by)
        except ValueError as error:
            problems.append(document.problem((*path, "review_by"), f"'{entry.review_by}' is not a day: {error}"))
            continue
        waivers[entry.id] = Waiver(id=entry.id, reason=entry.reason, owner=entry.owner, review_by=day)
    if problems:
        raise config_error(name, problems)
    return tuple(waivers.values())


def evaluate_scan(
    vulnerabilities: Sequence[Vulnerability], waivers: Iterable[Waiver], *, fail_on: Severity, today: date
) -> ScanResult:
    """Return which of the `vulnerabilities` of one image stop a release, are waived, or have an expired waiver.

    A vulnerability stops a release if its severity is `fail_on` or higher and it has no valid waiver. A waiver is
    valid if `today` is not after its `review_by`.
    """
    by_id = {waiver.id: waiver for waiver in waivers}
    ordered = sorted(vulnerabilities, key=lambda each: (-each.severity, each.id, each.package))
    with_waiver = [(each, by_id[each.id]) for each in ordered if each.id in by_id]
    waived = tuple((each, waiver) for each, waiver in with_waiver if today <= waiver.review_by)
    waived_ids = {waiver.id for _, waiver in waived}
    blocking = tuple(each for each in ordered if each.severity >= fail_on and each.id not in waived_ids)
    return ScanResult(
        blocking=blocking,
        waived=waived,
        expired=tuple((each, waiver) for each, waiver in with_waiver if today > waiver.review_by),
        counts={level: sum(each.severity == level for each in vulnerabilities) for level in reversed(Severity)},
    )


def scan_summary(result: ScanResult) -> str:
    """Return one line for people with the number of findings of each severity, and of blocking and waived ones."""
    counts = ", ".join(f"{count} {severity.label}" for severity, count in result.counts.items() if count)
    decision = f"{len(result.blocking)} blocking, {len(result.waived)} waived"
    return f"{sum(result.counts.values())} findings ({counts}); {decision}" if counts else "no findings"


def scan_lines(result: ScanResult) -> Iterator[str]:
    """Yield one line for people for each vulnerability that is blocking, waived, or has an expired waiver.

    Blocking vulnerabilities come first, then waived ones. Other vulnerabilities below the threshold are left out.
    """
    expired = {vulnerability: waiver for vulnerability, waiver in result.expired}
    for vulnerability in result.blocking:
        waiver = expired.get(vulnerability)
        review = f"; {waiver.owner} accepted it until {waiver.review_by}: review it" if waiver else ""
        yield f"{vulnerability}{review}"
    for vulnerability, waiver in result.waived:
        yield f"waived: {vulnerability}: {waiver.reason} ({waiver.owner}, until {waiver.review_by})"
    for vulnerability, waiver in result.expired:
        if vulnerability not in result.blocking:
            yield f"below the threshold: {vulnerability}; its waiver expired on {waiver.review_by} ({waiver.owner})"


def unused_waivers(waivers: Iterable[Waiver], vulnerabilities: Iterable[Vulnerability]) -> Iterator[str]:
    """Yield a line for each of `waivers` that is not needed: no vulnerability in `vulnerabilities` has its id.

    `vulnerabilities` are those of all images.
    """
    found = {vulnerability.id for vulnerability in vulnerabilities}
    for waiver in waivers:
        if waiver.id not in found:
            yield f"no image has {waiver.id}; remove its waiver ({waiver.owner}, until {waiver.review_by})"


def await_scan(
    fetch: FetchScan, start: Callable[[], None], reference: str, *, stop: Stop, timeout: float = SCAN_TIMEOUT
) -> tuple[Vulnerability, ...]:
    """Wait until an image is scanned, and return its vulnerabilities.

    `fetch` asks ECR for the findings; if no scan was started, `start` is called once. Raises `RegistryError` if the
    scan failed, is not possible for this image, or is not finished after `timeout` seconds; the message names the image
    by its `reference`. Raises `Interrupted` if `stop` is set.
    """
    waited, pause, started = 0.0, _FIRST_PAUSE, False
    while True:
        answer = fetch()
        if answer is None and not started:
            start()
            started = True
        scan = answer.get("imageScanStatus", {}) if answer else {}
        status = scan.get("status", "PENDING")
        if answer and status in _DONE:
            return parse_findings(answer)
        if status not in _UNFINISHED:
            raise RegistryError(
                f"{reference} was not scanned: {status}: {scan.get('description') or 'no reason given'}"
            )
        if waited >= timeout:
            raise RegistryError(f"{reference}: its scan is {status} after {waited:.0f} s; try again later")
        seconds = min(pause, timeout - waited)
        if stop.wait(seconds):
            raise Interrupted("interrupted")
        waited += seconds
        pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)


def parse_findings(answer: Mapping[str, Any]) -> tuple[Vulnerability, ...]:
    """Return the vulnerabilities in `answer`, ECR's answer to DescribeImageScanFindings; empty if it has no findings.

    The answer may be that of a basic or of an enhanced scan.
    """
    findings = answer.get("imageScanFindings") or {}
    basic = (_basic(entry) for entry in findings.get("findings") or ())
    return (*basic, *_enhanced(findings.get("enhancedFindings") or ()))


def _basic(entry: Mapping[str, Any]) -> Vulnerability:
    attributes = {each["key"]: each.get("value", "") for each in entry.get("attributes") or ()}
    return Vulnerability(
        id=entry["name"],
        severity=_severity(entry.get("severity", "")),
        package=attributes.get("package_name", "?"),
        version=attributes.get("package_version", "?"),
    )


def _enhanced(entries: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    """Yield one vulnerability for each affected package of each active finding in `entries`, from Amazon Inspector."""
    for entry in entries:
        # SUPPRESSED: a suppression rule of the account hides it. CLOSED: it is fixed.
        if entry.get("status", "ACTIVE") != "ACTIVE":
            continue
        details = entry.get("packageVulnerabilityDetails") or {}
        packages: Sequence[Mapping[str, Any]] = details.get("vulnerablePackages") or ({},)
        for package in packages:
            fixed = package.get("fixedInVersion", "")
            yield Vulnerability(
                id=details.get("vulnerabilityId") or entry.get("title") or entry.get("findingArn", "?"),
                severity=_severity(entry.get("severity", "")),
                package=package.get("name", "?"),
                version=package.get("version", "?"),
                fixed="" if fixed == "NotAvailable" else fixed,
            )


def _severity(name: str) -> Severity:
    return Severity.__members__.get(name, Severity.UNDEFINED)
