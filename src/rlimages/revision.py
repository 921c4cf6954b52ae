"""Which commit a checkout is of: images say it, so that they can be made again from their labels alone."""

from collections.abc import Mapping
from pathlib import Path

from rlimages import shell
from rlimages.cell import EMPTY
from rlimages.errors import ToolError

LABEL = "org.opencontainers.image.revision"


def labels(root: Path) -> Mapping[str, str]:
    """The label of a clean checkout; none for a changed one, or where there is no git: no commit says what it has."""
    try:
        said: list[str] = []
        if not shell.run(["git", "rev-parse", "HEAD"], on_line=said.append, cwd=root).passed:
            return EMPTY
        changed: list[str] = []
        status = shell.run(["git", "status", "--porcelain", "--", "."], on_line=changed.append, cwd=root)
    except ToolError:
        return EMPTY
    return {LABEL: said[0]} if status.passed and not changed else EMPTY
