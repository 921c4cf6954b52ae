"""Cache values that are expensive to derive from a text, until the text or the package changes."""

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
    return MappingProxyType(values)


copyreg.pickle(MappingProxyType, lambda mapping: (_read_only, (dict(mapping),)))


def cached(text: str, kind: type[Value], work_out: Callable[[], Value], environ: Mapping[str, str]) -> Value:
    """What `work_out` gives for this text; from memory where this very factory worked it out before."""
    folder = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlimages"
    file = folder / hashlib.sha256(f"{_package_state()}\n{text}".encode()).hexdigest()
    try:
        value = pickle.loads(file.read_bytes())
    except Exception:  # noqa: BLE001 - whatever is wrong with a memory, the answer is to work it out again
        value = None
    if isinstance(value, kind):
        return value
    value = work_out()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(pickle.dumps(value))
        part.replace(file)
    except OSError:
        return value  # a home that cannot be written to: there is just no memory
    return value


@cache
def _package_state() -> str:
    """What tells this state of the factory from any other: its modules, and when each was last written."""
    package = Path(__file__).parents[1]
    modules = (path for path in package.rglob("*.[py][ya]*") if path.suffix in (".py", ".yaml"))
    return " ".join(sorted(f"{path}:{path.stat().st_mtime_ns}" for path in modules))
