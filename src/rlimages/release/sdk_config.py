"""Write `image_uri_config` files, with which the SageMaker SDK finds images of the matrix."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlimages.errors import SelectionError, UsageError
from rlimages.matrix.cell import SAGEMAKER_LINE, Cell
from rlimages.project.project import Project
from rlimages.registry.ecr import open_ecr
from rlimages.release.targets_file import load_targets
from rlimages.system.files import write_text

# The SDK composes a tag from these parts: `image_uris.retrieve` joins tag_prefix, processor, py_version and
# container_version with hyphens.
_TAG_PATTERN = re.compile(r"(?P<prefix>.+?)-(?P<processor>cpu|gpu)(-(?P<python>py\d+))?(-(?P<rest>.+))?")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")
AccountsOf = Callable[[Cell], Mapping[str, str]]
"""Returns region -> account that has a cell's image."""


def sdk_configs(
    project: Project, cells: Sequence[Cell], *, target: str, account: str, regions: Sequence[str], line: str
) -> dict[str, dict[str, Any]]:
    """Return file name -> content, for images in a target, in an ECR account, or else as SageMaker published them.

    Raises `UsageError` for a target that is not in ECR, `SelectionError` if SageMaker published none of the cells, and
    `RegistryError` if AWS must be asked for the account of a target and does not answer.
    """
    names = {name: framework.sdk for name, framework in project.matrix.frameworks.items()}
    if target:
        prefix, accounts = _target_accounts(project, target)
        return config_files(cells, names, lambda _cell: accounts, prefix=prefix, line=line)
    if account:
        for region in regions:
            if not _REGION.fullmatch(region):
                raise UsageError(f"--region {region}: this is no region of AWS; write it as us-west-2")
        accounts = dict.fromkeys(regions or [project.accounts.default_region], account)
        return config_files(cells, names, lambda _cell: accounts, line=line)
    published = [cell for cell in cells if cell.registry]
    if not published:
        raise SelectionError("SageMaker published none of these; give --account or --target for your own copies")
    tables = project.accounts.tables
    return config_files(published, names, lambda cell: tables[cell.registry or ""], line=line)


def config_files(
    cells: Iterable[Cell],
    frameworks: Mapping[str, str],
    accounts_of: AccountsOf,
    *,
    prefix: str = "",
    line: str = SAGEMAKER_LINE,
) -> dict[str, dict[str, Any]]:
    """Return file name -> content: one file for each toolkit and framework (`frameworks`: our name -> the SDK's name).

    A version of `line` is a plain number. A version of another line has the line appended, as in cell ids:
    `2.9.3-debian`. An alias that contains a version is a version too. `prefix` is put in front of all repositories.
    Raises `UsageError` that lists every cell whose tag the SDK cannot compose.
    """
    files: dict[str, dict[str, dict[str, Any]]] = {}
    problems = []
    for cell in cells:
        name = "-".join([cell.toolkit, *([frameworks[cell.framework.name]] if cell.framework else [])])
        versions = files.setdefault(f"{name}.json", {})
        own = _TAG_PATTERN.fullmatch(cell.tag)
        if own is None or own["processor"] != cell.processor.value:
            problems.append(f"{cell.id}: the SDK can't form the tag '{cell.tag}'; it has no -{cell.processor.value}")
            continue
        for version, tag in _versions(cell, own["prefix"]):
            key = version if cell.line == line else f"{version}-{cell.line}"
            entry = _entry(tag, f"{prefix}/{cell.repository}" if prefix else cell.repository, accounts_of(cell))
            present = versions.setdefault(key, {**entry, "processors": [], "container_version": {}})
            problems += [
                f"{cell.id}: its {field} is {value}, but {present.get(field)} for another processor; "
                "the SDK has one for both"
                for field, value in entry.items()
                if present.get(field) != value
            ]
            present["processors"].append(cell.processor.value)
            present["container_version"][cell.processor.value] = tag["rest"]
    if problems:
        raise UsageError("\n".join([*problems, "leave these cells out with --select"]))
    return {name: _config_file(versions) for name, versions in sorted(files.items())}


def write_configs(files: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Write files into a folder. Yield a line for each: written, or unchanged."""
    for name, text in files.items():
        done = "wrote" if write_text(folder / name, text) else "unchanged"
        yield f"{done} {folder / name}"


def _versions(cell: Cell, prefix: str) -> Iterable[tuple[str, re.Match[str]]]:
    """Yield the versions by which the SDK can ask for a cell, each with the parts of the tag that it composes."""
    head, _, tail = prefix.partition(cell.version)
    pattern = re.compile(rf"{re.escape(head)}(?P<version>\d[\w.]*){re.escape(tail)}")
    for tag in cell.tags:
        parts = _TAG_PATTERN.fullmatch(tag)
        named = pattern.fullmatch(parts["prefix"]) if parts else None
        if parts and tag == cell.tag:
            yield cell.version, parts
        elif parts and named and parts["processor"] == cell.processor.value:
            yield named["version"], parts


def _entry(tag: re.Match[str], repository: str, accounts: Mapping[str, str]) -> dict[str, Any]:
    return {
        **({"py_versions": [tag["python"]]} if tag["python"] else {}),
        "registries": dict(sorted(accounts.items())),
        "repository": repository,
        "tag_prefix": tag["prefix"],
    }


def _config_file(versions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of one file. Processors that all versions share are given once, as in the SDK's own files."""
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


def _target_accounts(project: Project, name: str) -> tuple[str, Mapping[str, str]]:
    """Return the prefix of a target in ECR, and region -> account."""
    target = load_targets(project).find(name)
    if target.ecr is None:
        raise UsageError(f"the SDK only finds images in Amazon ECR, and target '{name}' is a registry of another kind")
    account = target.ecr.account
    if account is None:
        account = open_ecr(target.ecr.regions[0], profile=target.ecr.profile).address.account
    return target.prefix, dict.fromkeys(target.ecr.regions, account)
