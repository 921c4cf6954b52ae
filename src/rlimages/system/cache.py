"""Cache on disk the values that are slow to compute from a text, such as the parsed build matrix."""

import copyreg
import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

Value = TypeVar("Value")


def _read_only(values: dict[str, object]) -> MappingProxyType[str, object]:
    """Return a read-only view of `values`. `pickle` calls this function by its name to restore a stored mapping."""
    return MappingProxyType(values)


# pickle cannot store a MappingProxyType by itself; cells and account tables hold some.
copyreg.pickle(MappingProxyType, lambda mapping: (_read_only, (dict(mapping),)))


def cached(text: str, value_type: type[Value], compute: Callable[[], Value], environ: Mapping[str, str]) -> Value:
    """Return the cached value for `text`, or the result of `compute()`, which is then written to the cache.

    `text` must hold everything that the value depends on: the cache key is its SHA-256. A cached value is used only if
    it is an instance of `value_type`, and if no file of this package has changed since it was written. The cache is the
    folder `rlimages` below `XDG_CACHE_HOME` of `environ`, or below `~/.cache`. Errors of reading or writing are
    ignored.
    """
    folder = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlimages"
    file = folder / hashlib.sha256(f"{_package_state()}\n{text}".encode()).hexdigest()
    try:
        value = pickle.loads(file.read_bytes())
    except Exception:  # noqa: BLE001 - a damaged pickle can raise anything, and computing again is always right
        value = None
    if isinstance(value, value_type):
        return value
    value = compute()
    try:
        # loading a pickle can run code, so no other user may write here
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")  # two processes may compute a value at once
        part.write_bytes(pickle.dumps(value))
        part.replace(file)
    except OSError:
        return value  # a read-only or full home folder only means no cache
    return value


@cache
def _package_state() -> str:
    """Return a text with the paths and modification times of this package's Python and YAML files.

    It changes whenever a file changes. Hashing the files' contents would take longer than the cache saves.
    """
    states: list[str] = []
    # os.walk, not Path.rglob: this runs at the start of every command, and rglob takes four times as long.
    for folder, subfolders, names in os.walk(Path(__file__).parents[1]):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        paths = [f"{folder}/{name}" for name in names if name.endswith((".py", ".yaml"))]
        states += [f"{path}:{os.stat(path).st_mtime_ns}" for path in paths]
    return " ".join(sorted(states))
