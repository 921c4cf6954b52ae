"""Read files, and write them atomically."""

import os
import tempfile
from pathlib import Path


def read_data(name: str) -> str:
    """Read a data file of the package: the account tables, the acceptance profiles or the schema."""
    return (Path(__file__).parents[1] / "data" / name).read_text(encoding="utf-8")


def read_text(path: Path) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_text(path: Path, text: str) -> bool:
    """Write atomically, so that a killed run leaves the old file or the new one. False when nothing changed."""
    if read_text(path) == text:
        return False
    write_atomically(path, text.encode())
    return True


def write_atomically(path: Path, content: bytes) -> None:
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
