"""Find the cell for a toolkit, version, framework and processor, and the registry of its image."""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from rlimages.errors import SelectionError, did_you_mean
from rlimages.matrix.accounts import Accounts, ecr_host
from rlimages.matrix.cell import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageQuery:
    """The properties by which an image is looked up. None stands for any value."""

    toolkit: str
    version: str | None
    framework: str | None
    processor: str
    line: str
    published: bool = False
    """Without a version, look only at the images that SageMaker published."""


def find_cell(cells: Iterable[Cell], query: ImageQuery) -> Cell:
    """Return the cell for a query. A minor version means its newest patch version, no version means the newest.

    The SageMaker RL documentation has this rule: "the latest supported patch version of that minor version".
    Raise `SelectionError` if no cell matches, or cells of several frameworks do.
    """
    rows = [cell for cell in cells if cell.line == query.line and cell.processor == query.processor]
    if query.published and query.version is None:
        rows = [cell for cell in rows if cell.registry]
    rows = _require_match(rows, "toolkit", query.toolkit, [cell.toolkit for cell in rows])
    rows = [
        cell for cell in rows if query.version is None or _matches_version(cell.version, query.version)
    ] or _no_match("version", query.version or "", [cell.version for cell in rows])
    if query.framework is not None:
        rows = _require_match(rows, "framework", query.framework, [_framework(cell) for cell in rows])
    newest = max(Version(cell.version) for cell in rows)
    rows = [cell for cell in rows if Version(cell.version) == newest]
    if len(rows) > 1:
        choices = ", ".join(sorted(_framework(cell) for cell in rows))
        raise SelectionError(f"{query.toolkit} {newest} exists for {choices}; choose one with --framework")
    return rows[0]


def registry_host(cell: Cell, accounts: Accounts, *, region: str, account: str | None, registry: str | None) -> str:
    """Return the registry of a cell's image: `registry`, else that of `account`, else the one SageMaker publishes in.

    Raise `SelectionError` if SageMaker never published the image, and `UsageError` if it did not in this region.
    """
    if registry is not None:
        return registry
    if account is not None:
        return ecr_host(account, region, accounts.domain(region))
    if cell.registry is None:
        raise SelectionError(f"SageMaker never published {cell.id}; give --account or --registry for your own copy")
    return accounts.host(cell.registry, region)


def _framework(cell: Cell) -> str:
    return cell.framework.name if cell.framework else "no framework"


def _matches_version(version: str, wanted: str) -> bool:
    """Return True if a version is the wanted one or belongs to it: '0.11.1' to '0.11', but not to '0.1'."""
    try:
        release = Version(wanted).release
    except InvalidVersion:
        return False
    return Version(version) == Version(wanted) or (
        len(release) < 3 and Version(version).release[: len(release)] == release
    )


def _require_match(rows: list[Cell], key: str, wanted: str, values: list[str]) -> list[Cell]:
    """Return the rows whose value is the wanted one; `values` has one value for each row."""
    return [row for row, value in zip(rows, values, strict=True) if value == wanted] or _no_match(key, wanted, values)


def _no_match(key: str, wanted: str, values: list[str]) -> list[Cell]:
    known = list(dict.fromkeys(values))
    hint = did_you_mean(wanted, known)
    raise SelectionError(f"no matching image has the {key} '{wanted}', only {', '.join(known) or 'none'}{hint}")
