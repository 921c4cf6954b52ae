"""List the modules and packages of the in-image library, `src/sagemaker_rl`, that the images of one toolkit get."""

from collections.abc import Collection
from pathlib import Path

LIBRARY = "src/sagemaker_rl"
"""Path, below the project root, of the in-image library: the Python package that is copied into images."""


def library_names(root: Path, toolkit: str, toolkits: Collection[str]) -> tuple[str, ...]:
    """Return the names of modules and packages in `src/sagemaker_rl` that images of `toolkit` get, sorted.

    `root` is the project root, and `toolkits` are all toolkits of the matrix. A package that is named like a toolkit,
    or a name that begins with a toolkit and `_`, belongs to that toolkit. All other names are common to all images.
    Return an empty tuple if `root` has no folder `src/sagemaker_rl`.
    """
    folder = root / LIBRARY
    if not folder.is_dir():
        return ()
    # Git keeps no empty folder: a folder counts from its __init__.py on, so that every checkout renders the same.
    modules = [path.name for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return tuple(sorted(name for name in modules if _owner(name, toolkits) in (None, toolkit)))


def _owner(name: str, toolkits: Collection[str]) -> str | None:
    """Return the one of `toolkits` that the module or package `name` belongs to; None if it is common to all images."""
    owners = [toolkit for toolkit in toolkits if name == toolkit or name.startswith(f"{toolkit}_")]
    return max(owners, key=len, default=None)
