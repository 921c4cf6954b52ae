"""Write `image_uri_config` files (JSON), in which the SageMaker SDK looks up the URIs of images."""

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
"""Returns, for a cell, AWS region -> id of the AWS account whose ECR has the cell's image."""


def sdk_configs(
    project: Project, cells: Sequence[Cell], *, target: str, account: str, regions: Sequence[str], line: str
) -> dict[str, dict[str, Any]]:
    """Return file name -> JSON content of the SDK's configuration for the images of `cells`.

    The images are those in the target named `target`; or, if it is empty, in the ECR of `account` in `regions` (by
    default the project's default region); or, if both are empty, those that SageMaker published. `line` is the family
    of base images whose versions get no suffix, see `config_files`. Raises `UsageError` for a target that is not in
    ECR, a text that is no region, or a tag that the SDK cannot compose; `SelectionError` if SageMaker published none of
    the cells; `RegistryError` if AWS does not give the account of the credentials.
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
    """Return file name -> JSON content, with one file for each toolkit and framework, such as `ray-tensorflow.json`.

    `frameworks` is the matrix's name of a framework -> the SDK's name. `accounts_of` returns region -> account for a
    cell. `prefix` is put in front of all repositories. A line is a family of base images: versions of cells of `line`
    are plain numbers, those of another line have its name appended (`2.9.3-debian`). A version in an alias is listed
    too. Raises `UsageError` that lists every cell whose tag the SDK cannot compose.
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
    """Write `files` (file name -> text) into `folder`. Yield `wrote <path>` or `unchanged <path>` for each file."""
    for name, text in files.items():
        done = "wrote" if write_text(folder / name, text) else "unchanged"
        yield f"{done} {folder / name}"


def _versions(cell: Cell, prefix: str) -> Iterable[tuple[str, re.Match[str]]]:
    """Yield each version under which the SDK can find the image of `cell`, with its tag as a match of `_TAG_PATTERN`.

    These are the cell's own version, and the versions in aliases that differ from the own tag only in the version and
    in the parts after the processor. `prefix` is the part of the own tag before the processor.
    """
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
    """Return the content of one version, without the processors. `tag` is a match of `_TAG_PATTERN`."""
    return {
        **({"py_versions": [tag["python"]]} if tag["python"] else {}),
        "registries": dict(sorted(accounts.items())),
        "repository": repository,
        "tag_prefix": tag["prefix"],
    }


def _config_file(versions: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of one file with `versions` (version -> its content). The entries of `versions` are changed.

    If all versions have the same processors, these are listed once for the file, as in the SDK's own files.
    """
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
    """Return the repository prefix of the target `name`, and region -> id of its AWS account.

    Raises `UsageError` if the target is not in ECR. If `targets.yaml` does not give the account, AWS is asked for it;
    raises `RegistryError` if AWS does not answer.
    """
    target = load_targets(project).find(name)
    if target.ecr is None:
        raise UsageError(f"the SDK only finds images in Amazon ECR, and target '{name}' is a registry of another kind")
    account = target.ecr.account
    if account is None:
        account = open_ecr(target.ecr.regions[0], profile=target.ecr.profile).address.account
    return target.prefix, dict.fromkeys(target.ecr.regions, account)
