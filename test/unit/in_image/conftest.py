"""Import the library that runs inside the images without any toolkit, as its unit tests need it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = Path(__file__).resolve().parents[3] / "src"
NEED_A_TOOLKIT = ("coach.launcher", "coach.workers", "coach_launcher")
"""Modules of the library that import a toolkit at their top."""


def library_modules() -> list[str]:
    """Return the dotted names, below `sagemaker_rl`, of all modules that need no toolkit."""
    folder = SOURCES / "sagemaker_rl"
    names = [".".join(path.relative_to(folder).with_suffix("").parts) for path in sorted(folder.rglob("*.py"))]
    return [name for name in names if name not in NEED_A_TOOLKIT and not name.endswith("__init__")]


@pytest.fixture(scope="module")
def library() -> Iterator[ModuleType]:
    """The package `sagemaker_rl` with its modules imported; afterwards the path and the modules are as before."""
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(SOURCES))
    try:
        for name in library_modules():
            importlib.import_module(f"sagemaker_rl.{name}")
        yield sys.modules["sagemaker_rl"]
    finally:
        sys.path.remove(str(SOURCES))
        sys.dont_write_bytecode = writes
        for name in [name for name in sys.modules if name.partition(".")[0] == "sagemaker_rl"]:
            del sys.modules[name]
