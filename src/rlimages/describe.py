"""Say what a cell is: for eyes and for programs. Cells in, text and plain values out."""

from collections.abc import Iterable, Mapping
from typing import Any

from rlimages.cell import Cell


def summary(cell: Cell) -> dict[str, Any]:
    """What `list --json` says of a cell."""
    return {
        "id": cell.id,
        "repository": cell.repository,
        "tags": list(cell.tags),
        "base": cell.base.image,
        "recipe": cell.recipe,
        "lock": cell.lock,
    }


def everything(cell: Cell) -> dict[str, Any]:
    """What `show --json` says of a cell."""
    asked = cell.requirements
    return {
        **summary(cell),
        "toolkit": cell.toolkit,
        "version": cell.version,
        "framework": _framework(cell),
        "processor": cell.processor.value,
        "python": cell.python,
        "cuda": cell.base.cuda,
        "os": cell.base.os,
        "line": cell.line,
        "registry": cell.registry,
        "base registry": cell.base.registry,
        "extends": cell.extends,
        "requirements": {
            "as of": asked.as_of,
            "direct": list(asked.direct),
            "overrides": list(asked.overrides),
            "build": list(asked.build),
        },
        "packages": {"run": list(cell.system.run), "build": list(cell.system.build)},
        "env": dict(cell.env),
        "workdir": cell.workdir,
        "display": cell.display,
        "inventory": dict(cell.inventory),
        "timeout": cell.timeout,
        "where": cell.where,
    }


def _framework(cell: Cell) -> dict[str, str] | None:
    return {"name": cell.framework.name, "version": cell.framework.version} if cell.framework else None


def lines(cells: Iterable[Cell], *, wide: bool = False) -> str:
    """The table of `list`: columns as wide as they need to be, nothing cut. `wide` adds recipe and lock."""
    head = ("CELL", "IMAGE", "ALIASES", "BASE", "RECIPE", "LOCK")
    rows = [head]
    for cell in cells:
        rows.append((cell.id, cell.local_name, " ".join(cell.aliases) or "-", cell.base.image, cell.recipe, cell.lock))
    shown = [row if wide else row[:4] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in shown)


def page(facts: Mapping[str, Any]) -> str:
    """The page of `show`: one fact a line, lists below their name."""
    text = f"{facts['id']}\n"
    for name, value in facts.items():
        if name != "id" and value not in (None, [], {}):
            text += _entry(name, value, "  ")
    return text


def _entry(name: str, value: Any, indent: str) -> str:
    if isinstance(value, list):
        return f"{indent}{name}:\n" + "".join(f"{indent}  {item}\n" for item in value)
    if isinstance(value, Mapping):
        return f"{indent}{name}:\n" + "".join(
            _entry(k, v, indent + "  ") for k, v in value.items() if v not in ([], {})
        )
    return f"{indent}{name}: {value}\n"
