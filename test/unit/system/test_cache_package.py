"""Cached values are dropped when the package changes: they may have been derived by other code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src/rlimages"
PROGRAM = """
import os
from rlimages.system.cache import cached
cached("text", str, lambda: print("derived") or "value", os.environ)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, as an installation has it."""
    return Path(shutil.copytree(SOURCE, tmp_path / "src/rlimages", ignore=shutil.ignore_patterns("__pycache__")))


def derives(package: Path) -> bool:
    environ = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(package.parents[1])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True)
    return done.stdout == "derived\n"


@pytest.mark.parametrize("module", ["errors.py", "matrix/parser.py", "oci/manifest.py", "data/accounts.yaml"])
def test_a_change_of_any_module_of_the_package_drops_what_was_derived(package: Path, module: str) -> None:
    assert derives(package)
    assert not derives(package)
    before = (package / module).stat().st_mtime_ns
    os.utime(package / module, ns=(before, before + 1))
    assert derives(package)


def test_a_new_module_drops_what_was_derived(package: Path) -> None:
    assert derives(package)
    (package / "matrix/new.py").write_text("")
    assert derives(package)
