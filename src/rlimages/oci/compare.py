"""Compare the contents of two images."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rlimages.oci.contents import FileEntry, ImageContents

_RUNS = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "StopSignal", "User", "Volumes", "WorkingDir")
"""What of a configuration changes how a container runs."""


class Similarity(IntEnum):
    """How alike two images are; the greater, the more."""

    DIFFERENT = 0
    PACKAGES = 1
    """The same packages of the distribution and of Python, in the same versions."""
    FILES = 2
    """The same at every path, time stamps apart, and the same way to run it."""
    DIGEST = 3
    """The same bytes."""

    def __str__(self) -> str:
        return "different" if self is Similarity.DIFFERENT else f"same {self.name.lower()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Something in which two images are not alike."""

    where: str
    """A path, `configuration <key>`, or the name of a package."""
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How alike two images are."""

    level: Similarity
    files: tuple[Difference, ...] = ()
    """Paths and ways to run it, sorted."""
    packages: tuple[Difference, ...] = ()
    times: int = 0
    """Paths that differ in nothing but their time stamp."""
    labels: tuple[Difference, ...] = ()
    """They do not lower the level: a label may say where and from what it was built."""


def compare_images(first: ImageContents, second: ImageContents) -> Comparison:
    """Hold two images against each other."""
    if first.id == second.id:
        return Comparison(level=Similarity.DIGEST)
    files = (*_run_differences(first.config, second.config), *_file_differences(first.files, second.files))
    packages = tuple(_differences("", first.packages, second.packages))
    both = first.files.keys() & second.files.keys()
    return Comparison(
        level=Similarity.DIFFERENT if packages else Similarity.PACKAGES if files else Similarity.FILES,
        files=files,
        packages=packages,
        times=sum(first.files[path].time != second.files[path].time for path in both),
        labels=tuple(_differences("label ", _labels(first.config), _labels(second.config))),
    )


def _labels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return (config.get("config") or {}).get("Labels") or {}


def _run_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for key in ("architecture", "os"):
        yield from _differences("configuration ", {key: first.get(key)}, {key: second.get(key)})
    one, other = first.get("config") or {}, second.get("config") or {}
    for key in _RUNS:
        if (one.get(key) or None) != (other.get(key) or None):
            yield Difference(where=f"configuration {key}", what=f"{_short(one.get(key))} -> {_short(other.get(key))}")


def _file_differences(first: Mapping[str, FileEntry], second: Mapping[str, FileEntry]) -> Iterator[Difference]:
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            yield Difference(where=path, what="only in the second" if one is None else "only in the first")
        elif what := _unlike(one, other):
            yield Difference(where=path, what=what)


def _unlike(one: FileEntry, other: FileEntry) -> str:
    if one.kind != other.kind:
        return f"{one.kind} -> {other.kind}"
    said = []
    if one.mode != other.mode:
        said.append(f"mode {one.mode:04o} -> {other.mode:04o}")
    if one.owner != other.owner:
        said.append(f"owner {one.owner[0]}:{one.owner[1]} -> {other.owner[0]}:{other.owner[1]}")
    if one.size != other.size:
        said.append(f"size {one.size} -> {other.size}")
    elif one.content != other.content:
        said.append("content")
    if one.target != other.target:
        said.append(f"target {one.target} -> {other.target}")
    if one.attributes != other.attributes:
        said.append("extended attributes")
    return ", ".join(said)


def _differences(prefix: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield Difference(where=f"{prefix}{key}", what=f"{_short(first.get(key))} -> {_short(second.get(key))}")


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
