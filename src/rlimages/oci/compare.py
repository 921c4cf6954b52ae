"""Compare the contents of two images."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rlimages.oci.contents import FileEntry, ImageContents

_RUN_KEYS = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "StopSignal", "User", "Volumes", "WorkingDir")
"""Keys of an image configuration that change how a container runs."""
_VALUE_WIDTH = 60
"""Characters of a value in a `Difference`; longer values are cut."""


class Similarity(IntEnum):
    """How similar two images are: a higher level includes the lower ones."""

    DIFFERENT = 0
    """Not even the packages are the same."""
    PACKAGES = 1
    """The same packages of the distribution and of Python, in the same versions."""
    FILES = 2
    """The same files, apart from their time stamps, and the same configuration for containers."""
    DIGEST = 3
    """The same bytes."""

    def __str__(self) -> str:
        """Return the level for people: `different`, `same packages`, `same files`, `same digest`."""
        return "different" if self is Similarity.DIFFERENT else f"same {self.name.lower()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One difference between two images."""

    where: str
    """The part of the images that differs: a path, `configuration <key>`, `label <name>`, or the name of a package."""
    what: str
    """The values in the first and in the second image, as `first -> second`, or a few words (`only in the second`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How similar two images are, and all their differences."""

    level: Similarity
    """The highest level at which the two images are the same."""
    files: tuple[Difference, ...] = ()
    """Differences in the configuration for containers, then in files, sorted by path."""
    packages: tuple[Difference, ...] = ()
    """Differences in the packages of the distribution and of Python, sorted by name."""
    times: int = 0
    """Number of paths of both images whose time stamps differ."""
    labels: tuple[Difference, ...] = ()
    """Differences in labels. They do not lower the level: labels describe where an image comes from."""


def compare_images(first: ImageContents, second: ImageContents) -> Comparison:
    """Return the similarity of two images and all their differences; no differences if their ids are the same."""
    if first.id == second.id:
        return Comparison(level=Similarity.DIGEST)
    files = (*_config_differences(first.config, second.config), *_file_differences(first.files, second.files))
    packages = tuple(_differences("", first.packages, second.packages))
    common = first.files.keys() & second.files.keys()
    return Comparison(
        level=Similarity.DIFFERENT if packages else Similarity.PACKAGES if files else Similarity.FILES,
        files=files,
        packages=packages,
        times=sum(first.files[path].time != second.files[path].time for path in common),
        labels=tuple(_differences("label ", _labels(first.config), _labels(second.config))),
    )


def _labels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the labels in an image configuration; an empty mapping if it has none."""
    return (config.get("config") or {}).get("Labels") or {}


def _config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the differences of two image configurations that change how a container runs."""
    for key in ("architecture", "os"):
        yield from _differences("configuration ", {key: first.get(key)}, {key: second.get(key)})
    before, after = first.get("config") or {}, second.get("config") or {}
    for key in _RUN_KEYS:
        # Builders write a missing value as null, as an empty list, or not at all.
        if (before.get(key) or None) != (after.get(key) or None):
            what = f"{_short(before.get(key))} -> {_short(after.get(key))}"
            yield Difference(where=f"configuration {key}", what=what)


def _file_differences(first: Mapping[str, FileEntry], second: Mapping[str, FileEntry]) -> Iterator[Difference]:
    """Yield a difference for each path whose entry differs apart from its time stamp, sorted by path."""
    for path in sorted(first.keys() | second.keys()):
        before, after = first.get(path), second.get(path)
        if before is None or after is None:
            yield Difference(where=path, what="only in the second" if before is None else "only in the first")
        elif what := _entry_difference(before, after):
            yield Difference(where=path, what=what)


def _entry_difference(before: FileEntry, after: FileEntry) -> str:
    """Return how two entries differ, such as `mode 0644 -> 0755, content`; an empty string if only their times do."""
    if before.kind != after.kind:
        return f"{before.kind} -> {after.kind}"
    differences = []
    if before.mode != after.mode:
        differences.append(f"mode {before.mode:04o} -> {after.mode:04o}")
    if before.owner != after.owner:
        differences.append(f"owner {before.owner[0]}:{before.owner[1]} -> {after.owner[0]}:{after.owner[1]}")
    if before.size != after.size:
        differences.append(f"size {before.size} -> {after.size}")
    elif before.content != after.content:
        differences.append("content")
    if before.target != after.target:
        differences.append(f"target {before.target} -> {after.target}")
    if before.attributes != after.attributes:
        differences.append("extended attributes")
    return ", ".join(differences)


def _differences(prefix: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield a difference for each key with different values in two mappings, sorted. `prefix` is put before the key."""
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield Difference(where=f"{prefix}{key}", what=f"{_short(first.get(key))} -> {_short(second.get(key))}")


def _short(value: Any) -> str:
    """Return a JSON value as a text of at most `_VALUE_WIDTH` characters; `none` for None."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _VALUE_WIDTH else f"{text[: _VALUE_WIDTH - 3]}..."
