"""Compare ECR's scan findings with a severity threshold and the project's waivers."""

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
PATIENCE = 900.0
"""Seconds that a scan may take. Inspector needs minutes for an image of some GB."""
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 30.0
_DONE = ("COMPLETE", "ACTIVE")
"""A basic scan ends; an enhanced one stays active, and its findings change when the world learns more."""
_GOING = ("IN_PROGRESS", "PENDING", "FINDINGS_UNAVAILABLE")
AskScan = Callable[[], Mapping[str, Any] | None]
"""What DescribeImageScanFindings tells of one image, all its pages as one; None where no scan was ever begun."""


class Severity(IntEnum):
    """How bad a finding is, in the scanner's words."""

    UNDEFINED = 0
    """Also UNTRIAGED: nobody has said yet."""
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def word(self) -> str:
        """As it is written in `targets.yaml`."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Vulnerability:
    """One weakness that a scanner found in one package."""

    id: str
    """CVE-2024-3094, and the like."""
    severity: Severity
    package: str
    version: str
    fixed: str = ""
    """The version that mends it; empty where the scanner knows none."""

    def __str__(self) -> str:
        """As people read it."""
        mended = f", mended in {self.fixed}" if self.fixed else ""
        return f"{self.id} ({self.severity.word}) in {self.package} {self.version}{mended}"


class RawWaiver(StrictModel):
    """One accepted finding."""

    id: str = Field(pattern=r"^[A-Z0-9][A-Za-z0-9.:_-]+$", description="As the scanner names it: CVE-2024-3094.")
    reason: str = Field(min_length=1)
    owner: str = Field(min_length=1, description="Who accepts it.")
    review_by: Date


class RawWaivers(StrictModel):
    """Findings that somebody accepts, for a while."""

    waivers: list[RawWaiver]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiver:
    """One accepted finding."""

    id: str
    reason: str
    owner: str
    review_by: date
    """The last day on which it holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanResult:
    """What the findings of one image come to."""

    standing: tuple[Vulnerability, ...]
    """At the threshold or above it, and not waived: these fail the image. The worst first."""
    waived: tuple[tuple[Vulnerability, Waiver], ...]
    expired: tuple[tuple[Vulnerability, Waiver], ...]
    """Findings whose waiver is past its date: it waives nothing any more."""
    counts: Mapping[Severity, int]
    """Of all findings, waived or not, below the threshold or not."""

    @property
    def passed(self) -> bool:
        """Whether nothing stands."""
        return not self.standing


def parse_waivers(text: str, name: str = WAIVERS_FILE) -> tuple[Waiver, ...]:
    """Read the file. Raises `ConfigError` with every mistake and its place."""
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawWaivers)
    found: dict[str, Waiver] = {}
    problems = []
    for number, entry in enumerate(raw.waivers):
        path = ("waivers", number)
        if entry.id in found:
            problems.append(document.problem((*path, "id"), f"'{entry.id}' is waived twice"))
        try:
            day = date.fromisoformat(entry.review_by)
        except ValueError as error:
            problems.append(document.problem((*path, "review_by"), f"'{entry.review_by}' is no day: {error}"))
            continue
        found[entry.id] = Waiver(id=entry.id, reason=entry.reason, owner=entry.owner, review_by=day)
    if problems:
        raise config_error(name, problems)
    return tuple(found.values())


def evaluate_findings(
    findings: Sequence[Vulnerability], waivers: Iterable[Waiver], *, fail_on: Severity, today: date
) -> ScanResult:
    """Hold findings against a threshold and the waivers."""
    by_id = {waiver.id: waiver for waiver in waivers}
    ordered = sorted(findings, key=lambda finding: (-finding.severity, finding.id, finding.package))
    known = [(finding, by_id[finding.id]) for finding in ordered if finding.id in by_id]
    waived = tuple((finding, waiver) for finding, waiver in known if today <= waiver.review_by)
    accepted = {waiver.id for _, waiver in waived}
    standing = tuple(found for found in ordered if found.severity >= fail_on and found.id not in accepted)
    return ScanResult(
        standing=standing,
        waived=waived,
        expired=tuple((finding, waiver) for finding, waiver in known if today > waiver.review_by),
        counts={each: sum(finding.severity == each for finding in findings) for each in reversed(Severity)},
    )


def scan_summary(verdict: ScanResult) -> str:
    """A verdict in one line."""
    found = ", ".join(f"{count} {each.word}" for each, count in verdict.counts.items() if count)
    stands = f"{len(verdict.standing)} stand in the way, {len(verdict.waived)} are waived"
    return f"{sum(verdict.counts.values())} findings ({found}); {stands}" if found else "nothing found"


def scan_lines(verdict: ScanResult) -> Iterator[str]:
    """A verdict for people: first what fails, then what was accepted."""
    late = {finding: waiver for finding, waiver in verdict.expired}
    for finding in verdict.standing:
        waiver = late.get(finding)
        until = f"; {waiver.owner} accepted it until {waiver.review_by}: review it" if waiver else ""
        yield f"{finding}{until}"
    for finding, waiver in verdict.waived:
        yield f"waived: {finding}: {waiver.reason} ({waiver.owner}, until {waiver.review_by})"
    for finding, waiver in verdict.expired:
        if finding not in verdict.standing:
            yield f"below the threshold: {finding}; its waiver ended {waiver.review_by} ({waiver.owner})"


def unused_waivers(waivers: Iterable[Waiver], found: Iterable[Vulnerability]) -> Iterator[str]:
    """What the waivers file could lose, by what was found in all images."""
    seen = {finding.id for finding in found}
    for waiver in waivers:
        if waiver.id not in seen:
            yield f"not found in any image, so needs no waiver: {waiver.id} ({waiver.owner}, until {waiver.review_by})"


def parse_findings(told: Mapping[str, Any]) -> tuple[Vulnerability, ...]:
    """The findings in an answer of DescribeImageScanFindings, of a basic or an enhanced scan."""
    both = told.get("imageScanFindings") or {}
    return (*map(_basic, both.get("findings") or ()), *_enhanced(both.get("enhancedFindings") or ()))


def await_findings(
    ask: AskScan, begin: Callable[[], None], where: str, *, stop: Stop, patience: float = PATIENCE
) -> tuple[Vulnerability, ...]:
    """Wait until an image is scanned, and begin a scan where none was. Raises `RegistryError` naming `where`.

    `patience` in seconds. A scan that failed, or that ECR can't do for this image, is an error: nothing is known then.
    """
    waited, pause, begun = 0.0, _FIRST_PAUSE, False
    while True:
        told = ask()
        if told is None and not begun:
            begin()
            begun = True
        status = told.get("imageScanStatus", {}) if told else {}
        word = status.get("status", "PENDING")
        if told and word in _DONE:
            return parse_findings(told)
        if word not in _GOING:
            raise RegistryError(f"{where} was not scanned: {word}: {status.get('description') or 'no reason given'}")
        if waited >= patience:
            raise RegistryError(f"{where}: its scan is {word} after {waited:.0f} s; try again later")
        if stop.wait(min(pause, patience - waited)):
            raise Interrupted("interrupted")
        waited += min(pause, patience - waited)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _basic(told: Mapping[str, Any]) -> Vulnerability:
    words = {entry["key"]: entry.get("value", "") for entry in told.get("attributes") or ()}
    return Vulnerability(
        id=told["name"],
        severity=_severity(told.get("severity", "")),
        package=words.get("package_name", "?"),
        version=words.get("package_version", "?"),
    )


def _enhanced(entries: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    """One for each package; what Inspector itself suppresses or has closed is no finding."""
    for told in entries:
        if told.get("status", "ACTIVE") != "ACTIVE":
            continue
        details = told.get("packageVulnerabilityDetails") or {}
        packages: Sequence[Mapping[str, Any]] = details.get("vulnerablePackages") or ({},)
        for package in packages:
            fixed = package.get("fixedInVersion", "")
            yield Vulnerability(
                id=details.get("vulnerabilityId") or told.get("title") or told.get("findingArn", "?"),
                severity=_severity(told.get("severity", "")),
                package=package.get("name", "?"),
                version=package.get("version", "?"),
                fixed="" if fixed == "NotAvailable" else fixed,
            )


def _severity(word: str) -> Severity:
    return Severity.__members__.get(word, Severity.UNDEFINED)
