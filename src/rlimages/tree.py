"""The files of a project, read and written through one place."""

import os
import tempfile
from pathlib import Path

from rlimages.errors import FactoryError

MATRIX = "build_matrix.yaml"
BASES = "build_matrix.lock.yaml"
"""Which digest each base had when its registry was last asked."""


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds a build matrix."""
    for folder in (start, *start.parents):
        if (folder / MATRIX).is_file():
            return folder
    raise FactoryError(f"no {MATRIX} in {start} or above; run this inside a project or give --matrix")


def read(path: Path) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write(path: Path, text: str) -> bool:
    """Write atomically, so that a killed run leaves the old file or the new one. False when nothing changed."""
    if read(path) == text:
        return False
    replace(path, text.encode())
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file, and its folder, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
