"""Judge whether a target takes an image. Facts and a profile in, findings out; nothing is asked of anybody."""

from collections.abc import Iterable
from dataclasses import dataclass

from rlimages.errors import GateError
from rlimages.profiles import Profile
from rlimages.results import Outcome
from rlimages.rules import RULES
from rlimages.specimen import Specimen


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one rule says of one image."""

    rule: str
    outcome: Outcome
    reason: str
    """What was found; a credential is named and never shown."""
    remedy: str = ""
    """What to do about it, where it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one profile says of one image."""

    specimen: Specimen
    profile: Profile
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The rules that it breaks; with none the target takes it."""
        return tuple(finding for finding in self.findings if finding.outcome is Outcome.FAILED)


def judge(specimen: Specimen, profile: Profile) -> Verdict:
    """Apply every rule."""
    said = ((rule, *decide(specimen, profile)) for rule, decide in RULES.items())
    findings = (Finding(rule=rule, outcome=outcome, reason=why, remedy=how) for rule, outcome, why, how in said)
    return Verdict(specimen=specimen, profile=profile, findings=tuple(findings))


def insist(verdicts: Iterable[Verdict]) -> None:
    """Raise `GateError` with a line for each rule that is broken, of all images together."""
    lines = [
        f"{verdict.specimen.reference}: {verdict.profile.name} refuses it: {finding.rule}: {finding.reason}; "
        f"{finding.remedy}"
        for verdict in verdicts
        for finding in verdict.refused
    ]
    if lines:
        raise GateError("\n".join(lines))
