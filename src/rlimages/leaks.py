"""Find credentials in what an image tells everybody: its environment, its labels, and what its layers were made with.

What is found is named, never shown.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from rlimages.distribution import Configuration

_ARGUMENTS = re.compile(r"^(?:RUN )?\|\d+ (?P<words>.*?) ?/bin/(?:ba)?sh -[a-z]*c ", re.DOTALL)
"""How BuildKit, and without RUN its forerunner, write down the build arguments of a RUN, secret or not."""
_FORERUNNER = "/bin/sh -c #(nop) "
"""How the forerunner writes down what is no RUN."""
_PAIR = re.compile(r"(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)=(\S+)")


def find(configuration: Configuration, names: Mapping[str, str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Where credentials are, each in a few words.

    `names`: pattern of variables in capitals -> what they hold; `values`: regular expression -> what it finds.
    """
    return tuple(dict.fromkeys(_find(configuration, names, values)))


def _find(configuration: Configuration, names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
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
