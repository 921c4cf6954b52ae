"""List the files of the in-image library, `src/sagemaker_rl`, that the images of one toolkit get."""

from collections.abc import Collection
from pathlib import Path

LIBRARY = "src/sagemaker_rl"
"""Folder of the in-image library below the project root."""


def library_names(root: Path, toolkit: str, toolkits: Collection[str]) -> tuple[str, ...]:
    """Return the names in `src/sagemaker_rl` that images of a toolkit get, sorted. Empty without this folder.

    A folder named like a toolkit, and a file whose name begins with a toolkit's name and `_`, belong to that toolkit.
    All other modules and packages are common to all images. `toolkits` are those of the matrix. A toolkit without
    files of its own gets the common ones.
    """
    folder = root / LIBRARY
    if not folder.is_dir():
        return ()
    # Git keeps no empty folder: a folder counts from its __init__.py on, so that every checkout renders the same.
    modules = [path.name for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return tuple(sorted(name for name in modules if _owner(name, toolkits) in (None, toolkit)))


def _owner(name: str, toolkits: Collection[str]) -> str | None:
    """Return the toolkit that a name belongs to, or None for a common one."""
    owners = [toolkit for toolkit in toolkits if name == toolkit or name.startswith(f"{toolkit}_")]
    return max(owners, key=len, default=None)
