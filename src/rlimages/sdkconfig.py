"""Tell the SageMaker SDK where our images are: cells in, the JSON of its `image_uri_config` folder out.

Source of the shape: `image_uri_config/*.json` and `image_uris.retrieve` of the SageMaker Python SDK 2.257. It forms a
tag as `<tag_prefix>-<processor>[-<py_version>][-<container_version>]`, and reads `processors` of the file, else of the
version.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rlimages.cell import SAGEMAKER_LINE, Cell
from rlimages.errors import UsageError

_TAG = re.compile(r"(?P<prefix>.+?)-(?P<processor>cpu|gpu)(-(?P<python>py\d+))?(-(?P<rest>.+))?")

Registries = Callable[[Cell], Mapping[str, str]]
"""Region -> account of a cell's image."""


def files(
    cells: Iterable[Cell],
    frameworks: Mapping[str, str],
    registries: Registries,
    *,
    prefix: str = "",
    line: str = SAGEMAKER_LINE,
) -> dict[str, dict[str, Any]]:
    """File name -> what it says: one file for each toolkit and framework (`frameworks`: our name -> the SDK's).

    A version of `line` is called by its number, one of another line also by that line, as in ids: `2.9.3-debian`.
    Aliases with a version in them are versions too. `prefix` stands before all repositories. Raises `UsageError` naming
    every cell whose tag the SDK can't form.
    """
    entries: dict[str, dict[str, dict[str, Any]]] = {}
    problems = []
    for cell in cells:
        name = "-".join([cell.toolkit, *([frameworks[cell.framework.name]] if cell.framework else [])])
        file = entries.setdefault(f"{name}.json", {})
        own = _TAG.fullmatch(cell.tag)
        if own is None or own["processor"] != cell.processor.value:
            problems.append(f"{cell.id}: the SDK can't form the tag '{cell.tag}'; it has no -{cell.processor.value}")
            continue
        for version, tag in _versions(cell, own["prefix"]):
            key = version if cell.line == line else f"{version}-{cell.line}"
            entry = _entry(tag, f"{prefix}/{cell.repository}" if prefix else cell.repository, registries(cell))
            there = file.setdefault(key, {**entry, "processors": [], "container_version": {}})
            problems += [
                f"{cell.id}: its {word} is {value}, and {there.get(word)} for another processor; the SDK takes one"
                for word, value in entry.items()
                if there.get(word) != value
            ]
            there["processors"].append(cell.processor.value)
            there["container_version"][cell.processor.value] = tag["rest"]
    if problems:
        raise UsageError("\n".join([*problems, "leave these cells out with --select"]))
    return {name: _file(versions) for name, versions in sorted(entries.items())}


def _versions(cell: Cell, prefix: str) -> Iterable[tuple[str, re.Match[str]]]:
    """The versions by which a cell can be asked for, each with the tag that answers."""
    head, _, tail = prefix.partition(cell.version)
    pattern = re.compile(rf"{re.escape(head)}(?P<version>\d[\w.]*){re.escape(tail)}")
    for tag in cell.tags:
        taken = _TAG.fullmatch(tag)
        named = pattern.fullmatch(taken["prefix"]) if taken else None
        if taken and tag == cell.tag:
            yield cell.version, taken
        elif taken and named and taken["processor"] == cell.processor.value:
            yield named["version"], taken


def _entry(tag: re.Match[str], repository: str, registries: Mapping[str, str]) -> dict[str, Any]:
    return {
        **({"py_versions": [tag["python"]]} if tag["python"] else {}),
        "registries": dict(sorted(registries.items())),
        "repository": repository,
        "tag_prefix": tag["prefix"],
    }


def _file(versions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """`processors` stands at the top where all versions have the same, as in the SDK's own files."""
    for entry in versions.values():
        suffixes = entry.pop("container_version")
        if any(suffixes.values()):
            entry["container_version"] = suffixes
    processors = [entry["processors"] for entry in versions.values()]
    if all(found == processors[0] for found in processors):
        for entry in versions.values():
            del entry["processors"]
        return {"processors": processors[0], "scope": ["training"], "versions": dict(versions)}
    return {"scope": ["training"], "versions": dict(versions)}
