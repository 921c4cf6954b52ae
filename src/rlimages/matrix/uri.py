"""Find the cell for a toolkit, version, framework and processor, and the host of the registry with its image."""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from rlimages.errors import SelectionError, did_you_mean
from rlimages.matrix.accounts import Accounts, ecr_host
from rlimages.matrix.cell import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageQuery:
    """The properties by which a cell is looked up. None stands for any value."""

    toolkit: str
    version: str | None
    framework: str | None
    processor: str
    line: str
    published: bool = False
    """True: if no version is given, look only at the cells whose images SageMaker published."""


def find_cell(cells: Iterable[Cell], query: ImageQuery) -> Cell:
    """Return the one of `cells` that matches `query`, in its newest version.

    A query for a minor version gets the newest patch version of it, and a query without a version the newest of all.
    The SageMaker RL documentation has this rule: "the latest supported patch version of that minor version". Raise
    `SelectionError` if no cell matches, or if the newest version has cells for several frameworks.
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
    """Return the host of the registry to pull a cell's image from.

    It is `registry` if that is given. Else it is the ECR registry of the AWS account `account` in `region`, and without
    `account` that of the account in which SageMaker published the image. Raise `SelectionError` if SageMaker never
    published the image, and `UsageError` if it did not publish the image in this region.
    """
    if registry is not None:
        return registry
    if account is not None:
        return ecr_host(account, region, accounts.domain(region))
    if cell.registry is None:
        raise SelectionError(f"SageMaker never published {cell.id}; give --account or --registry for your own copy")
    return accounts.host(cell.registry, region)


def _framework(cell: Cell) -> str:
    """Return the name of the cell's framework, or `no framework`, for comparisons and messages."""
    return cell.framework.name if cell.framework else "no framework"


def _matches_version(version: str, query_version: str) -> bool:
    """Return True if `version` equals `query_version` or is a patch version of it.

    `0.11.1` matches `0.11` and `0.11.1`, but not `0.1`. Nothing matches a query that is not a PEP 440 version.
    """
    try:
        release = Version(query_version).release
    except InvalidVersion:
        return False
    return Version(version) == Version(query_version) or (
        # a query with three numbers is a patch version already, and matches only itself
        len(release) < 3 and Version(version).release[: len(release)] == release
    )


def _require_match(rows: list[Cell], key: str, query_value: str, values: list[str]) -> list[Cell]:
    """Return the cells `rows` whose property `key` has the value `query_value`; `values` has the value of each row.

    Raise `SelectionError`, which lists the known values, if there is none.
    """
    return [row for row, value in zip(rows, values, strict=True) if value == query_value] or _no_match(
        key, query_value, values
    )


def _no_match(key: str, query_value: str, values: list[str]) -> list[Cell]:
    """Raise `SelectionError`: no cell has `query_value` for the property `key`, only one of `values`.

    The return type, a list, lets a caller write `matches or _no_match(…)`.
    """
    known = list(dict.fromkeys(values))
    hint = did_you_mean(query_value, known)
    raise SelectionError(f"no matching image has the {key} '{query_value}', only {', '.join(known) or 'none'}{hint}")
