"""The acceptance rules. Each is a function from image facts and a profile to a result."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from rlimages.checks.inspection import ImageFacts, program_paths
from rlimages.checks.profiles import Profile
from rlimages.oci.layers import PathKind
from rlimages.oci.manifest import IN_TOTO, INDEXES, ImageConfig
from rlimages.plan.results import Outcome
from rlimages.system.units import format_binary_size

_ARGUMENTS = re.compile(r"^(?:RUN )?\|\d+ (?P<words>.*?) ?/bin/(?:ba)?sh -[a-z]*c ", re.DOTALL)
"""How BuildKit, and without RUN its forerunner, write down the build arguments of a RUN, secret or not."""
_FORERUNNER = "/bin/sh -c #(nop) "
"""How the forerunner writes down what is no RUN."""
_PAIR = re.compile(r"(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)=(\S+)")


def find_credentials(
    configuration: ImageConfig, names: Mapping[str, str], values: Mapping[str, str]
) -> tuple[str, ...]:
    """Where credentials are, each in a few words.

    `names`: pattern of variables in capitals -> what they hold; `values`: regular expression -> what it finds.
    """
    return tuple(dict.fromkeys(_find_in_config(configuration, names, values)))


def _find_in_config(configuration: ImageConfig, names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    for entry in configuration.env:
        name, _, value = entry.partition("=")
        for what in _in_pair(name, value, names, values):
            yield f"ENV {name} holds {what}"
    for name, value in configuration.labels.items():
        for what in _in_text(value, values):
            yield f"LABEL {name} holds {what}"
    for number, told in enumerate(configuration.history, start=1):
        step = told.removeprefix(_FORERUNNER).strip()
        word, pairs, rest = _take_apart(step)
        for name, value in pairs:
            for what in _in_pair(name, value, names, values) if f"{name}={value}" not in configuration.env else ():
                yield f"{word} {name} held {what}, and the image's history tells it"
        for what in _in_text(rest, values):
            yield f"step {number} of the image's history holds {what}"


def _in_pair(name: str, value: str, names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    by_name = next((what for pattern, what in names.items() if fnmatchcase(name.upper(), pattern.upper())), None)
    if value and by_name:
        yield by_name
    else:
        yield from _in_text(value, values)


def _in_text(text: str, values: Mapping[str, str]) -> Iterator[str]:
    return (what for expression, what in values.items() if re.search(expression, text))


def _take_apart(step: str) -> tuple[str, list[tuple[str, str]], str]:
    """A step of the history: ENV or ARG, what it sets by that, and the rest of it."""
    word, _, text = step.partition(" ")
    if word in ("ENV", "ARG"):
        return word, _PAIR.findall(text), ""
    used = _ARGUMENTS.match(step)
    if used:
        return "ARG", _PAIR.findall(used["words"]), step[used.end() :]
    return "", [], "" if word == "LABEL" else step


RuleOutcome = tuple[Outcome, str, str]
"""Outcome, reason and remedy. A credential is named and never shown."""


def _passed(reason: str) -> RuleOutcome:
    return Outcome.PASSED, reason, ""


def _failed(reason: str, remedy: str) -> RuleOutcome:
    return Outcome.FAILED, reason, remedy


def _not_applicable(reason: str) -> RuleOutcome:
    return Outcome.NOT_APPLICABLE, reason, ""


_NO_IMAGE = "there is no image to look at"
_NOT_READ = "the layers cannot be read"
_PLAIN_BUILD = "build it with `docker buildx build --provenance=false --sbom=false --output type=docker`"


def _not_packed(specimen: ImageFacts) -> RuleOutcome:
    if specimen.index is not None:
        return _not_applicable("the index names no image")
    return _not_applicable("not packed yet; publishing packs it as Docker's schema 2")


def _index(specimen: ImageFacts, _profile: Profile) -> RuleOutcome:
    if specimen.index is not None:
        platforms = ", ".join(part.platform or "?" for part in specimen.parts)
        return _failed(f"an index ({specimen.index.media_type}) of {platforms or 'nothing'}", _PLAIN_BUILD)
    return _passed("one manifest") if specimen.manifest else _not_packed(specimen)


def _attestation(specimen: ImageFacts, _profile: Profile) -> RuleOutcome:
    parts = [part for part in specimen.parts if part.is_attestation or part.platform == "unknown/unknown"]
    if parts:
        return _failed(f"{len(parts)} of {len(specimen.parts)} parts of the index attest others", _PLAIN_BUILD)
    if specimen.manifest is None:
        return _not_packed(specimen)
    if any(layer.media_type == IN_TOTO for layer in specimen.manifest.layers):
        return _failed("this is an attestation, no image", "name the image that it attests")
    return _passed("none")


def _manifest(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    there = specimen.index or specimen.manifest
    if there is None:
        return _not_packed(specimen)
    config = specimen.manifest.config if specimen.manifest else None
    if there.media_type not in profile.manifests:
        remedy = _PLAIN_BUILD if there.media_type in INDEXES else "let `rlimages publish` push it, which packs it anew"
        return _failed(f"the manifest is {there.media_type}, taken is {_or(profile.manifests)}", remedy)
    if config is None or config.media_type not in profile.configs:
        what = config.media_type if config else "missing"
        return _failed(f"its configuration is {what}, taken is {_or(profile.configs)}", "name an image")
    return _passed(there.media_type)


def _layers(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.manifest is None:
        return _not_packed(specimen)
    kinds = dict.fromkeys(layer.media_type for layer in specimen.manifest.layers)
    wrong = [kind for kind in kinds if kind not in profile.layers]
    if wrong:
        return _failed(
            f"there are layers of {', '.join(wrong)}, taken is {_or(profile.layers)}",
            "let `rlimages publish` push it, or build with `--output type=image,compression=gzip,oci-mediatypes=false`",
        )
    return _passed(f"{len(specimen.manifest.layers)} of {_or(tuple(kinds))}")


def _platform(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None:
        return _not_applicable(_NO_IMAGE)
    found = f"{specimen.configuration.os}/{specimen.configuration.architecture}"
    if found not in profile.platforms:
        remedy = f"build it with `--platform {profile.platforms[0]}`"
        return _failed(f"it is for {found}, taken is {_or(profile.platforms)}", remedy)
    return _passed(found)


def _layer_size(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.manifest is None:
        return _not_packed(specimen)
    largest = max((layer.size for layer in specimen.manifest.layers), default=0)
    remedy = "spread what the largest layer holds over several RUN or COPY lines"
    return _within(largest, profile.layer, "the largest layer has", remedy)


def _compressed(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.manifest is None:
        return _not_packed(specimen)
    total = sum(layer.size for layer in specimen.manifest.layers)
    return _within(total, profile.compressed, "its layers have", _SLIM)


def _unpacked(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.unpacked is None:
        return _not_applicable(_NOT_READ if specimen.configuration else _NO_IMAGE)
    return _within(specimen.unpacked, profile.unpacked, "its files have", _SLIM)


_SLIM = "leave out what it does not need at run time: compilers, caches, CUDA libraries for a CPU; build in stages"


def _within(size: int, limit: int | None, what: str, remedy: str) -> RuleOutcome:
    if limit is None:
        return _not_applicable(f"{what} {format_binary_size(size)}, and no limit is known")
    if size > limit:
        return _failed(
            f"{what} {size} bytes ({format_binary_size(size)}), {size - limit} more than {format_binary_size(limit)}",
            remedy,
        )
    return _passed(f"{what} {format_binary_size(size)} of {format_binary_size(limit)}")


def _programs(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None or not profile.programs:
        return _not_applicable(_NO_IMAGE if profile.programs else "none is asked for")
    if specimen.entries is None:
        return _not_applicable(_NOT_READ)
    found, missing = [], []
    for program in profile.programs:
        there = [path for path in program_paths(program, specimen.configuration, profile) if path in specimen.entries]
        runs = [path for path in there if specimen.entries[path] is PathKind.PROGRAM]
        found += runs[:1]
        if there and not runs:
            missing.append(f"{there[0]} is no program that may be executed")
        elif not runs:
            missing.append(f"no `{program}` is on PATH")
    if missing:
        words = _or(tuple(profile.programs))
        return _failed("; ".join(missing), f"SageMaker runs `docker run IMAGE {words}`: install what brings {words}")
    return _passed(", ".join(found))


def _entrypoint(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None:
        return _not_applicable(_NO_IMAGE)
    entrypoint = specimen.configuration.entrypoint
    if posixpath.basename(entrypoint[0] if entrypoint else "") in ("sh", "bash") and "-c" in entrypoint:
        words = _or(tuple(profile.programs)) or "its word"
        reason = f"it is in the shell form, which hears neither {words} nor SIGTERM"
        return _failed(reason, 'write it as a list: ENTRYPOINT ["/path/to/program"]')
    return _passed(" ".join(entrypoint) or "none: the word is the program")


def _absent(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.entries is None:
        return _not_applicable(_NOT_READ if specimen.configuration else _NO_IMAGE)
    there = [f"{path} is there: {why}" for path, why in profile.absent.items() if path in specimen.entries]
    if there:
        return _failed("; ".join(there), "remove it in the step that makes it")
    return _passed("none of them is there") if profile.absent else _not_applicable("none is named")


def _environment(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None:
        return _not_applicable(_NO_IMAGE)
    pairs = [entry.partition("=") for entry in specimen.configuration.env]
    names = [name for name, _, value in pairs if value]
    wrong = [
        f"{name} is set: {why}"
        for name in names
        for pattern, why in profile.environment.items()
        if fnmatchcase(name.upper(), pattern.upper())
    ]
    if wrong:
        return _failed("; ".join(wrong), "take it out of the ENV of the recipe or its base")
    return _passed(f"{len(names)} variables, none that SageMaker says itself")


def _credentials(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None:
        return _not_applicable(_NO_IMAGE)
    found = find_credentials(specimen.configuration, profile.credential_names, profile.credential_values)
    if found:
        return _failed(
            "; ".join(found), "revoke it, since it was in an image, and give it to the build with `--secret` instead"
        )
    return _passed("none in environment, labels and history")


def _tags(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    wrong = []
    for tag in specimen.tags:
        taken = [why for pattern, why in profile.reserved_tags.items() if fnmatchcase(tag, pattern)]
        if len(tag) > profile.tag_length:
            wrong.append(f"'{tag[:20]}…' has {len(tag)} characters, taken are {profile.tag_length}")
        elif not re.fullmatch(profile.tag, tag):
            wrong.append(f"'{tag}' is not of the form {profile.tag}")
        elif taken:
            wrong.append(f"'{tag}' is taken: {taken[0]}")
    if wrong:
        return _failed("; ".join(wrong), "give the image another tag")
    return _passed(", ".join(specimen.tags)) if specimen.tags else _not_applicable("it has none")


def _labels(specimen: ImageFacts, profile: Profile) -> RuleOutcome:
    if specimen.configuration is None:
        return _not_applicable(_NO_IMAGE)
    there = specimen.configuration.labels
    wrong = [f"{name} is missing" for name in profile.labels if name not in there]
    for name, form in {**profile.labels, **profile.optional_labels}.items():
        if name in there and not re.fullmatch(form, there[name]):
            wrong.append(f"{name} is '{there[name]}', taken is {form}")
    if wrong:
        return _failed("; ".join(wrong), "say it in the recipe: LABEL name=value")
    return _passed(", ".join(profile.labels) or "none is asked for")


RULES: Mapping[str, Callable[[ImageFacts, Profile], RuleOutcome]] = {
    "index": _index,
    "attestation": _attestation,
    "manifest": _manifest,
    "layers": _layers,
    "platform": _platform,
    "layer-size": _layer_size,
    "compressed-size": _compressed,
    "unpacked-size": _unpacked,
    "programs": _programs,
    "entrypoint": _entrypoint,
    "absent-paths": _absent,
    "environment": _environment,
    "credentials": _credentials,
    "tags": _tags,
    "labels": _labels,
}
"""Name -> what decides it. The names are for programs and people to rely on."""


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)
