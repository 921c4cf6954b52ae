"""Define the acceptance rules. Each rule compares the facts of an image with a profile, and explains its result.

The limits and media types, with the source of each, are in the profiles (`data/acceptance.yaml`), not here.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rlimages.checks.credentials import find_credentials
from rlimages.checks.inspection import ImageFacts, program_paths
from rlimages.checks.profiles import Profile
from rlimages.oci.manifest import IN_TOTO, INDEX_TYPES
from rlimages.oci.path_index import PathKind
from rlimages.plan.results import Outcome
from rlimages.system.units import format_binary_size


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """The result of one rule for one image."""

    outcome: Outcome
    """PASSED, FAILED, or NOT_APPLICABLE if the profile has no limit or the needed fact of the image is not known."""
    reason: str
    """The values that were found and compared, for people. A credential is described and never shown."""
    remedy: str = ""
    """How to fix the image; empty unless the rule failed."""


def _passed(reason: str) -> RuleResult:
    return RuleResult(outcome=Outcome.PASSED, reason=reason)


def _failed(reason: str, remedy: str) -> RuleResult:
    return RuleResult(outcome=Outcome.FAILED, reason=reason, remedy=remedy)


def _not_applicable(reason: str) -> RuleResult:
    return RuleResult(outcome=Outcome.NOT_APPLICABLE, reason=reason)


_NO_IMAGE = "there is no image to check"
_NOT_READ = "the files in the layers were not read"
# BuildKit adds provenance by default, and stores it as a second entry, so every image becomes an index:
# moby/buildkit#5480.
_PLAIN_BUILD = "build it with `docker buildx build --provenance=false --sbom=false --output type=docker`"
_UNSUPPORTED = 'SageMaker answers "Unsupported manifest media type"'
_SMALLER = (
    "leave out files that are not needed at run time (compilers, caches, CUDA libraries in a CPU image), "
    "or build in several stages"
)


def _no_manifest(image: ImageFacts) -> RuleResult:
    """Return the result NOT_APPLICABLE, for a rule about manifests and an image whose `manifest` is None."""
    if image.index is not None:
        return _not_applicable("the index names no image")
    return _not_applicable("not packed yet; publishing makes a Docker manifest, schema 2")


def _index(image: ImageFacts, _profile: Profile) -> RuleResult:
    if image.index is not None:
        platforms = ", ".join(entry.platform or "an unknown platform" for entry in image.index_entries)
        return _failed(
            f"the reference names an index ({image.index.media_type}) of {platforms or 'no image'}, not one manifest; "
            f"{_UNSUPPORTED}",
            _PLAIN_BUILD,
        )
    return _passed("one manifest") if image.manifest else _no_manifest(image)


def _attestation(image: ImageFacts, _profile: Profile) -> RuleResult:
    entries = [entry for entry in image.index_entries if entry.is_attestation or entry.platform == "unknown/unknown"]
    if entries:
        return _failed(
            f"{len(entries)} of the {len(image.index_entries)} entries of the index are attestations (provenance or "
            "SBOM); SageMaker accepts only a manifest without them",
            _PLAIN_BUILD,
        )
    if image.manifest is None:
        return _no_manifest(image)
    if any(layer.media_type == IN_TOTO for layer in image.manifest.layers):
        return _failed(
            "this is an attestation (provenance or SBOM), not an image; SageMaker cannot run it",
            "give the reference of the image that it attests",
        )
    return _passed("none")


def _manifest(image: ImageFacts, profile: Profile) -> RuleResult:
    referenced = image.index or image.manifest
    if referenced is None:
        return _no_manifest(image)
    config = image.manifest.config if image.manifest else None
    if referenced.media_type not in profile.manifests:
        return _failed(
            f"the manifest is {referenced.media_type}; accepted: {_or(profile.manifests)}; {_UNSUPPORTED}",
            _PLAIN_BUILD
            if referenced.media_type in INDEX_TYPES
            else "push it with `rlimages publish`, which writes a Docker manifest, schema 2",
        )
    if config is None or config.media_type not in profile.configs:
        found = config.media_type if config else "missing"
        return _failed(
            f"the configuration is {found}; accepted: {_or(profile.configs)}; SageMaker runs only images",
            "give the reference of an image; push it with `rlimages publish` if it is one",
        )
    return _passed(referenced.media_type)


def _layers(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.manifest is None:
        return _no_manifest(image)
    kinds = dict.fromkeys(layer.media_type for layer in image.manifest.layers)
    wrong = [kind for kind in kinds if kind not in profile.layers]
    if wrong:
        return _failed(
            f"there are layers of {', '.join(wrong)}; accepted: {_or(profile.layers)}; a Docker manifest, the only one "
            "that SageMaker accepts, has no others",
            "push it with `rlimages publish`, or build it with "
            "`--output type=image,compression=gzip,oci-mediatypes=false`",
        )
    return _passed(f"{len(image.manifest.layers)} of {_or(tuple(kinds))}")


def _platform(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None:
        return _not_applicable(_NO_IMAGE)
    platform = f"{image.config.os}/{image.config.architecture}"
    if platform not in profile.platforms:
        return _failed(
            f"the image is for {platform}; accepted: {_or(profile.platforms)}; an instance of another platform cannot "
            "run its programs",
            f"build it with `--platform {profile.platforms[0]}`",
        )
    return _passed(platform)


def _layer_size(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.manifest is None:
        return _no_manifest(image)
    largest = max((layer.size for layer in image.manifest.layers), default=0)
    return _within(
        largest,
        profile.layer,
        "the largest layer has",
        "Amazon ECR accepts no larger layer",
        "distribute the files of the largest layer over several RUN or COPY instructions",
    )


def _compressed_size(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.manifest is None:
        return _no_manifest(image)
    total = sum(layer.size for layer in image.manifest.layers)
    return _within(total, profile.compressed, "the compressed layers have", "the profile sets this limit", _SMALLER)


def _unpacked_size(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.unpacked_size is None:
        return _not_applicable(_NOT_READ if image.config else _NO_IMAGE)
    return _within(
        image.unpacked_size,
        profile.unpacked,
        "the unpacked files have",
        'SageMaker answers "Image size … is greater than supported size"',
        _SMALLER,
    )


def _within(size: int, limit: int | None, subject: str, consequence: str, remedy: str) -> RuleResult:
    """Return PASSED if `size` is at most `limit` (both in bytes), else FAILED; NOT_APPLICABLE if `limit` is None.

    The reason of the result starts with `subject`, such as "the largest layer has". If `limit` is exceeded, the reason
    ends with `consequence`, and `remedy` is the remedy of the result.
    """
    if limit is None:
        return _not_applicable(f"{subject} {format_binary_size(size)}, and no limit is known")
    if size > limit:
        # Exact bytes too: with a limit of 10.0 GiB, an image of one byte more also has "10.0 GiB".
        sizes = [f"{each} bytes ({format_binary_size(each)})" for each in (size, limit)]
        return _failed(f"{subject} {sizes[0]}, and the limit is {sizes[1]}; {consequence}", remedy)
    return _passed(f"{subject} {format_binary_size(size)} of {format_binary_size(limit)}")


def _programs(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None or not profile.programs:
        return _not_applicable(_NO_IMAGE if profile.programs else "the profile requires none")
    if image.path_kinds is None:
        return _not_applicable(_NOT_READ)
    found, problems = [], []
    for program in profile.programs:
        existing = [path for path in program_paths(program, image.config, profile) if path in image.path_kinds]
        executable = [path for path in existing if image.path_kinds[path] is PathKind.PROGRAM]
        found += executable[:1]
        if existing and not executable:
            problems.append(f"{existing[0]} is not an executable file")
        elif not executable:
            problems.append(f"there is no `{program}` on PATH")
    if problems:
        names = _or(tuple(profile.programs))
        return _failed(
            f"{'; '.join(problems)}; SageMaker starts the container with `docker run IMAGE {names}`, which fails",
            f"install a package that provides `{names}`, or put an executable file of that name on PATH",
        )
    return _passed(", ".join(found))


def _entrypoint(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None:
        return _not_applicable(_NO_IMAGE)
    entrypoint = image.config.entrypoint
    if posixpath.basename(entrypoint[0] if entrypoint else "") in ("sh", "bash") and "-c" in entrypoint:
        argument = f"`{_or(tuple(profile.programs))}`" if profile.programs else "of `docker run`"
        return _failed(
            f"the entrypoint is in the shell form, so its program gets neither the argument {argument} nor the SIGTERM "
            "with which SageMaker stops a container",
            'write it as a list: ENTRYPOINT ["/path/to/program"]',
        )
    return _passed(" ".join(entrypoint) or "none: the argument of `docker run` is the program")


def _absent_paths(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.path_kinds is None:
        return _not_applicable(_NOT_READ if image.config else _NO_IMAGE)
    existing = [f"{path} exists: {why}" for path, why in profile.absent.items() if path in image.path_kinds]
    if existing:
        return _failed("; ".join(existing), "remove it in the instruction of the Dockerfile that creates it")
    return _passed("none of them exists") if profile.absent else _not_applicable("the profile names none")


def _environment(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None:
        return _not_applicable(_NO_IMAGE)
    pairs = [entry.partition("=") for entry in image.config.env]
    # A variable cannot be removed from a base image's ENV, only emptied: an empty one counts as not set.
    names = [name for name, _, value in pairs if value]
    wrong = [
        f"{name} is set: {why}"
        for name in names
        for pattern, why in profile.environment.items()
        if fnmatchcase(name.upper(), pattern.upper())
    ]
    if wrong:
        return _failed(
            "; ".join(wrong), "remove it from the Dockerfile, or empty it with `ENV NAME=` if the base image sets it"
        )
    return _passed(f"{len(names)} variables, none of which SageMaker sets itself")


def _credentials(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None:
        return _not_applicable(_NO_IMAGE)
    found = find_credentials(image.config, profile.credential_names, profile.credential_values)
    if found:
        return _failed(
            f"{'; '.join(found)}; everybody who can pull the image can read it",
            "revoke it, because it was in an image, and pass it to the build with `--secret` instead",
        )
    return _passed("none in environment, labels and history")


def _tags(image: ImageFacts, profile: Profile) -> RuleResult:
    wrong = []
    for tag in image.tags:
        reserved = [why for pattern, why in profile.reserved_tags.items() if fnmatchcase(tag, pattern)]
        if len(tag) > profile.tag_length:
            wrong.append(f"'{tag[:20]}…' has {len(tag)} characters; a registry accepts {profile.tag_length}")
        elif not re.fullmatch(profile.tag, tag):
            wrong.append(f"'{tag}' is not of the form {profile.tag} that registries accept")
        elif reserved:
            wrong.append(f"'{tag}' is reserved: {reserved[0]}")
    if wrong:
        return _failed("; ".join(wrong), "give the image another tag")
    return _passed(", ".join(image.tags)) if image.tags else _not_applicable("the image has none")


def _labels(image: ImageFacts, profile: Profile) -> RuleResult:
    if image.config is None:
        return _not_applicable(_NO_IMAGE)
    labels = image.config.labels
    wrong = [f"{name} is missing" for name in profile.labels if name not in labels]
    for name, form in {**profile.labels, **profile.optional_labels}.items():
        if name in labels and not re.fullmatch(form, labels[name]):
            wrong.append(f"{name} is '{labels[name]}'; accepted: {form}")
    if wrong:
        return _failed("; ".join(wrong), "set it in the Dockerfile: LABEL name=value")
    return _passed(", ".join(profile.labels) or "the profile requires none")


RULES: Mapping[str, Callable[[ImageFacts, Profile], RuleResult]] = {
    "index": _index,
    "attestation": _attestation,
    "manifest": _manifest,
    "layers": _layers,
    "platform": _platform,
    "layer-size": _layer_size,
    "compressed-size": _compressed_size,
    "unpacked-size": _unpacked_size,
    "programs": _programs,
    "entrypoint": _entrypoint,
    "absent-paths": _absent_paths,
    "environment": _environment,
    "credentials": _credentials,
    "tags": _tags,
    "labels": _labels,
}
"""Name of the rule -> rule, in the order of the output.

The names are public: reports, scripts and `docs/acceptance.md` use them, so they do not change.
"""


def _or(values: Sequence[str]) -> str:
    return " or ".join(values)
