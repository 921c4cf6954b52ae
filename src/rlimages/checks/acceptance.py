"""Apply the acceptance rules of a profile to images."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlimages.checks.inspection import LOCAL, ImageFacts, read_local_facts, read_remote_facts
from rlimages.checks.profiles import Profile, load_profiles
from rlimages.checks.rules import RULES
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import ImageStore
from rlimages.errors import AcceptanceError, Interrupted
from rlimages.oci.manifest import Manifest, Reference
from rlimages.plan.results import Outcome
from rlimages.project.lookup import find_project, resolve_subjects
from rlimages.project.project import Project
from rlimages.project.state import new_run_name
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import HostCredentials
from rlimages.system.process import Stop
from rlimages.system.units import format_size


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What one rule says of one image."""

    rule: str
    outcome: Outcome
    reason: str
    """What was found; a credential is named and never shown."""
    remedy: str = ""
    """What to do about it, where it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceResult:
    """What one profile says of one image."""

    specimen: ImageFacts
    profile: Profile
    findings: tuple[RuleResult, ...]

    @property
    def refused(self) -> tuple[RuleResult, ...]:
        """The rules that it breaks; with none the target takes it."""
        return tuple(finding for finding in self.findings if finding.outcome is Outcome.FAILED)


def apply_profile(specimen: ImageFacts, profile: Profile) -> AcceptanceResult:
    """Apply every rule."""
    said = ((rule, *decide(specimen, profile)) for rule, decide in RULES.items())
    findings = (RuleResult(rule=rule, outcome=outcome, reason=why, remedy=how) for rule, outcome, why, how in said)
    return AcceptanceResult(specimen=specimen, profile=profile, findings=tuple(findings))


def require_accepted(verdicts: Iterable[AcceptanceResult]) -> None:
    """Raise `GateError` with a line for each rule that is broken, of all images together."""
    lines = [
        f"{verdict.specimen.reference}: {verdict.profile.name} refuses it: {finding.rule}: {finding.reason}; "
        f"{finding.remedy}"
        for verdict in verdicts
        for finding in verdict.refused
    ]
    if lines:
        raise AcceptanceError("\n".join(lines))


def judge_local_image(
    store: ImageStore,
    image: str,
    tags: Sequence[str],
    profiles: Sequence[Profile],
    *,
    called: str = "",
    manifest: Manifest | None = None,
) -> tuple[AcceptanceResult, ...]:
    """What the profiles say of an image of the local store, by name or id, that is to be published under these tags.

    `called` is what people know an id by. `manifest` is what it was packed as; without it the rules about manifests and
    packed layers mean nothing yet.
    """
    if not profiles:
        return ()
    specimen = replace(read_local_facts(store, image, tags, profiles, manifest=manifest), reference=called or image)
    return tuple(apply_profile(specimen, profile) for profile in profiles)


def accept_images(
    words: Sequence[str],
    chosen: Sequence[str],
    *,
    matrix: Path | None,
    environ: Mapping[str, str],
    stop: Stop,
    on_verdict: Callable[[AcceptanceResult], None],
    on_note: Callable[[str], None],
) -> None:
    """Judge each word's images by each of the chosen profiles, and hand on each verdict. Raises `FactoryError`.

    A word is a reference that names a registry, an image of the local store, or a pattern of cells.
    """
    owner = find_project(matrix, Path.cwd())
    known = load_profiles(owner.root if owner else None)
    wanted = tuple(known.find(name) for name in dict.fromkeys(chosen))
    engine = DockerEngine(run=new_run_name(), stop=stop)
    try:
        for specimen in _collect_facts(words, wanted, engine, owner, environ, stop, on_note):
            for profile in wanted:
                on_verdict(apply_profile(specimen, profile))
            if stop.is_set():
                raise Interrupted("interrupted")
    finally:
        engine.close()


def _collect_facts(
    words: Sequence[str],
    wanted: Sequence[Profile],
    engine: DockerEngine,
    owner: Project | None,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Iterator[ImageFacts]:
    cleaned = False
    for word in words:
        found = resolve_subjects(word, engine, owner)
        if isinstance(found, Reference):
            with RegistryClient(found.host, login=RegistryLogin(HostCredentials(environ))) as registry:
                yield read_remote_facts(registry, found, wanted, stop=stop, on_note=on_note)
            continue
        if not cleaned:
            for note in engine.remove_orphans():
                on_note(note)
            cleaned = True
        for subject in found:
            yield read_local_facts(engine, subject.name, subject.tags, wanted)


_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "REFUSED", Outcome.NOT_APPLICABLE: "-"}


def acceptance_lines(verdict: AcceptanceResult) -> Iterator[str]:
    """A verdict for people: a head, a line for each rule, and a remedy below each that is broken."""
    specimen, profile = verdict.specimen, verdict.profile
    came = "refused" if verdict.refused else "accepted"
    how = LOCAL if specimen.origin == LOCAL else f"{format_size(specimen.read)} read"
    yield f"{specimen.reference} ({how}): {came} by {profile.name} as of {profile.as_of}"
    for finding in verdict.findings:
        yield f"  {_MARKS[finding.outcome]:<8} {finding.rule:<16} {finding.reason}"
        if finding.remedy:
            yield f"{'':<28}-> {finding.remedy}"


def acceptance_facts(verdicts: Iterable[AcceptanceResult]) -> list[dict[str, Any]]:
    """Verdicts for programs."""
    return [
        {
            "image": verdict.specimen.reference,
            "origin": verdict.specimen.origin,
            "digest": verdict.specimen.id,
            "profile": verdict.profile.name,
            "as of": verdict.profile.as_of,
            "accepted": not verdict.refused,
            "bytes read": verdict.specimen.read,
            "rules": [
                {"rule": each.rule, "outcome": each.outcome.value, "reason": each.reason, "remedy": each.remedy}
                for each in verdict.findings
            ],
        }
        for verdict in verdicts
    ]
