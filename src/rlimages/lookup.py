"""Which image of the local store a word means: its own name, or the id of a cell."""

from pathlib import Path

from rlimages import project
from rlimages.engine import Engine
from rlimages.errors import SelectionError, ToolError
from rlimages.selector import select


def find_image(word: str, engine: Engine, matrix: Path | None, start: Path) -> str:
    """The image of the local store that goes by this name, or is this cell's. Raises `FactoryError`."""
    if engine.inspect(word) is not None:
        return word
    if "/" in word or ":" in word:
        raise ToolError(f"there is no image {word} in the local store; docker pull {word}")
    cells = select(project.load(matrix, start).cells, (word,))
    if len(cells) > 1:
        raise SelectionError(f"this runs in one image, and '{word}' is {', '.join(cell.id for cell in cells)}")
    if engine.inspect(cells[0].local_name) is None:
        raise ToolError(f"there is no image of {word} in the local store; rlimages build --select {word}")
    return cells[0].local_name
