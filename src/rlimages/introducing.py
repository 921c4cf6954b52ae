"""Introduce our images to the SageMaker SDK: those that SageMaker published, an account's, or a target's."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlimages import destination, ecr, sdkconfig, tree
from rlimages.cell import Cell
from rlimages.errors import SelectionError, UsageError
from rlimages.project import Project

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")


def introduce(
    project: Project, cells: Sequence[Cell], *, target: str, account: str, regions: Sequence[str], line: str
) -> dict[str, dict[str, Any]]:
    """File name -> what it says. Without a target and an account, of what SageMaker published among the cells.

    Raises `UsageError` for a target that is not in ECR, `SelectionError` where SageMaker published none of the cells,
    `RegistryError` where AWS must be asked for the account of a target and does not say.
    """
    names = {name: known.sdk for name, known in project.matrix.frameworks.items()}
    if target:
        prefix, held = _held_by(project, target)
        return sdkconfig.files(cells, names, lambda _cell: held, prefix=prefix, line=line)
    if account:
        for region in regions:
            if not _REGION.fullmatch(region):
                raise UsageError(f"--region {region}: this is no region of AWS; write it as us-west-2")
        held = dict.fromkeys(regions or [project.accounts.default_region], account)
        return sdkconfig.files(cells, names, lambda _cell: held, line=line)
    published = [cell for cell in cells if cell.registry]
    if not published:
        raise SelectionError("SageMaker published none of these; give --account or --target for your own copies")
    tables = project.accounts.tables
    return sdkconfig.files(published, names, lambda cell: tables[cell.registry or ""], line=line)


def write(files: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Write the files into a folder, and say what became of each."""
    for name, text in files.items():
        done = "wrote" if tree.write(folder / name, text) else "unchanged"
        yield f"{done} {folder / name}"


def _held_by(project: Project, name: str) -> tuple[str, Mapping[str, str]]:
    """A target's prefix, and its account in each of its regions."""
    target = destination.targets(project).find(name)
    if target.ecr is None:
        raise UsageError(f"the SDK only finds images in Amazon ECR, and target '{name}' is a registry of another kind")
    account = target.ecr.account
    if account is None:
        account = ecr.open_ecr(target.ecr.regions[0], profile=target.ecr.profile).where.account
    return target.prefix, dict.fromkeys(target.ecr.regions, account)
