"""Choose cells by their id. Matching none is an error."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from rlimages.cell import Cell
from rlimages.errors import SelectionError


def select(cells: Iterable[Cell], patterns: Sequence[str] = ("*",)) -> tuple[Cell, ...]:
    """Keep the cells whose id matches any pattern (`*`, `?`, `[…]`), in the order of the matrix.

    A run that builds nothing and says "passed" is the worst kind of green, and so is one that leaves out what was
    asked for: every pattern must match. Raises `SelectionError`.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(fnmatchcase(cell.id, pattern) for cell in known):
            near = get_close_matches(pattern, [cell.id for cell in known], n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else "; `rlimages list` shows all ids"
            raise SelectionError(f"no cell matches '{pattern}'{hint}")
    return tuple(cell for cell in known if any(fnmatchcase(cell.id, pattern) for pattern in patterns))
