"""Find credentials in the configuration of an image: its environment, labels, build arguments and build steps."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from rlimages.oci.manifest import ImageConfig

_RUN_ARGUMENTS = re.compile(r"^(?:RUN )?\|\d+ (?P<pairs>.*?) ?/bin/(?:ba)?sh -[a-z]*c ", re.DOTALL)
"""The build arguments of a RUN step: `RUN |2 A=1 B=2 /bin/sh -c …`. The classic builder writes no `RUN`.

Both builders record every declared ARG there, secret or not, so `--build-arg` is no way to pass a secret.
"""
_CLASSIC_PREFIX = "/bin/sh -c #(nop) "
"""How the classic builder (before BuildKit) starts each step other than RUN."""
_PAIR = re.compile(r"(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)=(\S+)")


def find_credentials(config: ImageConfig, names: Mapping[str, str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return one phrase for each credential in `config`, such as `ENV API_TOKEN holds a token`; empty if there is none.

    A phrase never shows the credential itself. `names` maps a pattern of variable names, in upper or lower case, to the
    kind of credential that these variables hold. `values` maps a regular expression to the kind of credential that it
    finds in a text. A variable with an empty value is no credential.
    """
    return tuple(dict.fromkeys(_find_in_config(config, names, values)))


def _find_in_config(config: ImageConfig, names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    for entry in config.env:
        name, _, value = entry.partition("=")
        for kind in _kinds_in_pair(name, value, names, values):
            yield f"ENV {name} holds {kind}"
    for name, value in config.labels.items():
        for kind in _kinds_in_text(value, values):
            yield f"LABEL {name} holds {kind}"
    for number, recorded in enumerate(config.history, start=1):
        step = recorded.removeprefix(_CLASSIC_PREFIX).strip()
        instruction, pairs, text = _split_step(step)
        for name, value in pairs:
            # A variable that is still set was reported above; here are those that a later step changed or emptied.
            if f"{name}={value}" not in config.env:
                for kind in _kinds_in_pair(name, value, names, values):
                    yield f"{instruction} {name} held {kind}, and the image's history still shows it"
        for kind in _kinds_in_text(text, values):
            yield f"step {number} of the image's history holds {kind}"


def _kinds_in_pair(name: str, value: str, names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    by_name = next((kind for pattern, kind in names.items() if fnmatchcase(name.upper(), pattern.upper())), None)
    if value and by_name:
        yield by_name
    else:
        yield from _kinds_in_text(value, values)


def _kinds_in_text(text: str, values: Mapping[str, str]) -> Iterator[str]:
    return (kind for expression, kind in values.items() if re.search(expression, text))


def _split_step(step: str) -> tuple[str, list[tuple[str, str]], str]:
    """Split `step`, an entry of an image's history, into an instruction, variables and the remaining text.

    The instruction is `ENV` or `ARG`, or empty. Build arguments that are recorded in a RUN step are returned as `ARG`,
    with the command as the remaining text. The variables are pairs of name and value. The text of a LABEL is empty.
    """
    instruction, _, text = step.partition(" ")
    if instruction in ("ENV", "ARG"):
        return instruction, _PAIR.findall(text), ""
    arguments = _RUN_ARGUMENTS.match(step)
    if arguments:
        return "ARG", _PAIR.findall(arguments["pairs"]), step[arguments.end() :]
    # Labels are read from the configuration itself.
    return "", [], "" if instruction == "LABEL" else step
