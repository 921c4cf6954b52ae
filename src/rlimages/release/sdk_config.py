"""Write `image_uri_config` files, by which the SageMaker SDK finds our images."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlimages.errors import SelectionError, UsageError
from rlimages.matrix.cell import SAGEMAKER_LINE, Cell
from rlimages.project.project import Project
from rlimages.registry.ecr import open_ecr
from rlimages.release.targets import load_targets
from rlimages.system.files import write_text

_TAG_PATTERN = re.compile(r"(?P<prefix>.+?)-(?P<processor>cpu|gpu)(-(?P<python>py\d+))?(-(?P<rest>.+))?")
Registries = Callable[[Cell], Mapping[str, str]]
"""Region -> account of a cell's image."""


def config_files(
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
        own = _TAG_PATTERN.fullmatch(cell.tag)
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
    return {name: _config_file(versions) for name, versions in sorted(entries.items())}


def _versions(cell: Cell, prefix: str) -> Iterable[tuple[str, re.Match[str]]]:
    """The versions by which a cell can be asked for, each with the tag that answers."""
    head, _, tail = prefix.partition(cell.version)
    pattern = re.compile(rf"{re.escape(head)}(?P<version>\d[\w.]*){re.escape(tail)}")
    for tag in cell.tags:
        taken = _TAG_PATTERN.fullmatch(tag)
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


def _config_file(versions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
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


_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")


def sdk_configs(
    project: Project, cells: Sequence[Cell], *, target: str, account: str, regions: Sequence[str], line: str
) -> dict[str, dict[str, Any]]:
    """File name -> what it says. Without a target and an account, of what SageMaker published among the cells.

    Raises `UsageError` for a target that is not in ECR, `SelectionError` where SageMaker published none of the cells,
    `RegistryError` where AWS must be asked for the account of a target and does not say.
    """
    names = {name: known.sdk for name, known in project.matrix.frameworks.items()}
    if target:
        prefix, held = _target_registries(project, target)
        return config_files(cells, names, lambda _cell: held, prefix=prefix, line=line)
    if account:
        for region in regions:
            if not _REGION.fullmatch(region):
                raise UsageError(f"--region {region}: this is no region of AWS; write it as us-west-2")
        held = dict.fromkeys(regions or [project.accounts.default_region], account)
        return config_files(cells, names, lambda _cell: held, line=line)
    published = [cell for cell in cells if cell.registry]
    if not published:
        raise SelectionError("SageMaker published none of these; give --account or --target for your own copies")
    tables = project.accounts.tables
    return config_files(published, names, lambda cell: tables[cell.registry or ""], line=line)


def write_configs(files: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Write the files into a folder, and say what became of each."""
    for name, text in files.items():
        done = "wrote" if write_text(folder / name, text) else "unchanged"
        yield f"{done} {folder / name}"


def _target_registries(project: Project, name: str) -> tuple[str, Mapping[str, str]]:
    """A target's prefix, and its account in each of its regions."""
    target = load_targets(project).find(name)
    if target.ecr is None:
        raise UsageError(f"the SDK only finds images in Amazon ECR, and target '{name}' is a registry of another kind")
    account = target.ecr.account
    if account is None:
        account = open_ecr(target.ecr.regions[0], profile=target.ecr.profile).where.account
    return target.prefix, dict.fromkeys(target.ecr.regions, account)
