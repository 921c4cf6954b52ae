"""Read files, and write them atomically."""

import os
import tempfile
from pathlib import Path


def read_data(name: str) -> str:
    """Return the text of the file `name` in this package's folder `data`, such as `accounts.yaml`."""
    return (Path(__file__).parents[1] / "data" / name).read_text(encoding="utf-8")


def read_text(path: Path) -> str | None:
    """Return the text (UTF-8) of the file at `path`, or None if there is no file.

    Raise `OSError` if it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write_text(path: Path, text: str) -> bool:
    """Write `text` atomically to the file at `path` and return True.

    Return False, and write nothing, if the file already has this text.
    """
    if read_text(path) == text:
        return False
    write_atomically(path, text.encode())
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to the file at `path`, so that no reader ever sees a partly written file, even after a crash.

    Parent folders are created. An existing file is replaced. The file gets the mode 0644.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A rename is atomic only within one file system, so the temporary file is in the same folder.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)  # mkstemp makes files that only their owner can read
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
