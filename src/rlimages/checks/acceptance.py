"""Apply acceptance profiles (sets of requirements for an image) to images, and format the results."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlimages.checks.inspection import LOCAL, ImageFacts, read_local_facts, read_remote_facts
from rlimages.checks.profiles import Profile, load_profiles
from rlimages.checks.rules import RULES, RuleResult
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import ImageStore
from rlimages.errors import AcceptanceError
from rlimages.oci.manifest import Manifest, Reference
from rlimages.plan.results import Outcome
from rlimages.project.lookup import find_project, resolve_subjects
from rlimages.project.project import Project
from rlimages.project.state import new_run_name
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import HostCredentials
from rlimages.system.context import RunContext
from rlimages.system.units import format_size


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceResult:
    """The results of all rules of one profile for one image."""

    image: ImageFacts
    profile: Profile
    rules: Mapping[str, RuleResult]
    """Name of the rule -> its result, for every rule in `rules.RULES`."""

    @property
    def broken_rules(self) -> Mapping[str, RuleResult]:
        """Name of the rule -> its result, for all rules that the image breaks; empty if the profile accepts it."""
        return {rule: result for rule, result in self.rules.items() if result.outcome is Outcome.FAILED}


def apply_profile(image: ImageFacts, profile: Profile) -> AcceptanceResult:
    """Apply every acceptance rule to `image` with the limits of `profile`. Return all results, also of broken rules."""
    results = {name: rule(image, profile) for name, rule in RULES.items()}
    return AcceptanceResult(image=image, profile=profile, rules=results)


def require_accepted(results: Iterable[AcceptanceResult]) -> None:
    """Raise `AcceptanceError` if a result has a broken rule. The message has one line for each broken rule."""
    lines = [
        f"{result.image.reference}: {result.profile.name} refuses it: {rule}: {broken.reason}; {broken.remedy}"
        for result in results
        for rule, broken in result.broken_rules.items()
    ]
    if lines:
        raise AcceptanceError("\n".join(lines))


def check_local_image(
    store: ImageStore,
    image: str,
    tags: Sequence[str],
    profiles: Sequence[Profile],
    *,
    name: str = "",
    manifest: Manifest | None = None,
) -> tuple[AcceptanceResult, ...]:
    """Apply `profiles` to an image of the local store (the engine's images), and return one result for each profile.

    `image` is the name or id of the image, `tags` are those under which it is to be published. `name` replaces `image`
    in the results. `manifest` is the manifest to publish; without it, the rules about manifests and compressed layers
    do not apply. Without `profiles`, the image is not read and the result is empty. Raises `ToolError` if the local
    store has no such image.
    """
    if not profiles:
        return ()
    facts = replace(read_local_facts(store, image, tags, profiles, manifest=manifest), reference=name or image)
    return tuple(apply_profile(facts, profile) for profile in profiles)


def accept_images(
    arguments: Sequence[str],
    profile_names: Sequence[str],
    *,
    matrix: Path | None,
    context: RunContext,
    on_result: Callable[[AcceptanceResult], None],
) -> None:
    """Apply acceptance profiles to images, and pass the result for each image and profile to `on_result`.

    Each of `arguments` is a reference that names a registry, a name or id of the local store (the engine's images), or
    a pattern of cell ids. `matrix` is the path of the build matrix; None searches it upwards from the working folder,
    and none is needed for images that are not cells. Raises `FactoryError` if a profile or an image does not exist. A
    refused image is a result, not an error.
    """
    project = find_project(matrix, Path.cwd())
    known = load_profiles(project.root if project else None)
    profiles = tuple(known.find(name) for name in dict.fromkeys(profile_names))
    engine = DockerEngine(run=new_run_name(), stop=context.stop)
    try:
        for image in _collect_facts(arguments, profiles, engine, project, context):
            for profile in profiles:
                on_result(apply_profile(image, profile))
            context.check_stop()
    finally:
        engine.close()


def _collect_facts(
    arguments: Sequence[str],
    profiles: Sequence[Profile],
    engine: DockerEngine,
    project: Project | None,
    context: RunContext,
) -> Iterator[ImageFacts]:
    orphans_removed = False
    for argument in arguments:
        subjects = resolve_subjects(argument, engine, project)
        if isinstance(subjects, Reference):
            login = RegistryLogin(HostCredentials(context.environ))
            with RegistryClient(subjects.host, login=login) as registry:
                yield read_remote_facts(registry, subjects, profiles, context=context)
            continue
        # Only here: a reference of a registry is checked without an engine.
        if not orphans_removed:
            for line in engine.remove_orphans():
                context.note(line)
            orphans_removed = True
        for subject in subjects:
            yield read_local_facts(engine, subject.name, subject.tags, profiles)


_MARKS = {Outcome.PASSED: "passed", Outcome.FAILED: "REFUSED", Outcome.NOT_APPLICABLE: "-"}


def acceptance_lines(result: AcceptanceResult) -> Iterator[str]:
    """Yield the lines that show a result to people: a headline, each rule, and the remedy below each broken rule."""
    image, profile = result.image, result.profile
    decision = "refused" if result.broken_rules else "accepted"
    origin = LOCAL if image.origin == LOCAL else f"{format_size(image.bytes_read)} read"
    yield f"{image.reference} ({origin}): {decision} by {profile.name} as of {profile.as_of}"
    for rule, each in result.rules.items():
        yield f"  {_MARKS[each.outcome]:<8} {rule:<16} {each.reason}"
        if each.remedy:
            yield f"{'':<28}-> {each.remedy}"


def acceptance_facts(results: Iterable[AcceptanceResult]) -> list[dict[str, Any]]:
    """Return one JSON object for each of `results`: the image, the profile and the result of each rule.

    Scripts read the output of `accept --json`, so the keys do not change.
    """
    return [
        {
            "image": result.image.reference,
            "origin": result.image.origin,
            "digest": result.image.id,
            "profile": result.profile.name,
            "as of": result.profile.as_of,
            "accepted": not result.broken_rules,
            "bytes read": result.image.bytes_read,
            "rules": [
                {"rule": rule, "outcome": each.outcome.value, "reason": each.reason, "remedy": each.remedy}
                for rule, each in result.rules.items()
            ],
        }
        for result in results
    ]
