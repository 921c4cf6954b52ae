"""Find the one cell that a toolkit, version, framework and processor describe, and the registry of its image."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from packaging.version import InvalidVersion, Version

from rlimages.errors import SelectionError
from rlimages.matrix.accounts import Accounts, ecr_host
from rlimages.matrix.cell import Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageQuery:
    """What a user knows about the image. None leaves a choice to the matrix."""

    toolkit: str
    version: str | None
    framework: str | None
    processor: str
    line: str
    published: bool = False
    """Only what SageMaker published may answer a question without a version."""


def find_cell(cells: Iterable[Cell], question: ImageQuery) -> Cell:
    """The one cell that answers. A minor version means its newest patch, no version the newest of all.

    Source of the rule: "the latest supported patch version of that minor version" in the SageMaker RL documentation.
    Raises `SelectionError` where no cell or more than one answers.
    """
    rows = [cell for cell in cells if cell.line == question.line and cell.processor == question.processor]
    if question.published and question.version is None:
        rows = [cell for cell in rows if cell.registry]
    rows = _narrow(rows, "toolkit", question.toolkit, [cell.toolkit for cell in rows])
    rows = [cell for cell in rows if question.version is None or _is_in(cell.version, question.version)] or _no_match(
        "version", question.version or "", [cell.version for cell in rows]
    )
    if question.framework is not None:
        rows = _narrow(rows, "framework", question.framework, [_framework(cell) for cell in rows])
    newest = max(Version(cell.version) for cell in rows)
    rows = [cell for cell in rows if Version(cell.version) == newest]
    if len(rows) > 1:
        choices = ", ".join(sorted(_framework(cell) for cell in rows))
        raise SelectionError(f"{question.toolkit} {newest} exists for {choices}; say which with --framework")
    return rows[0]


def registry_host(cell: Cell, accounts: Accounts, *, region: str, account: str | None, registry: str | None) -> str:
    """The registry to ask: one's own `registry`, one's own `account`, or the account SageMaker publishes from.

    Raises `SelectionError` for an image that SageMaker never published, `UsageError` for a region without it.
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


def _is_in(version: str, wanted: str) -> bool:
    """'0.11.1' is in '0.11.1' and in '0.11', not in '0.1'."""
    try:
        release = Version(wanted).release
    except InvalidVersion:
        return False
    return Version(version) == Version(wanted) or (
        len(release) < 3 and Version(version).release[: len(release)] == release
    )


def _narrow(rows: list[Cell], what: str, wanted: str, words: list[str]) -> list[Cell]:
    return [row for row, word in zip(rows, words, strict=True) if word == wanted] or _no_match(what, wanted, words)


def _no_match(what: str, wanted: str, words: list[str]) -> list[Cell]:
    known = list(dict.fromkeys(words))
    near = get_close_matches(wanted, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise SelectionError(f"there is no {what} '{wanted}' here, only {', '.join(known) or 'none'}{hint}")
