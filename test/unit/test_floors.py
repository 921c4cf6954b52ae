"""The floor plan: a module imports only from floors below its own, and no module names a toolkit."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = """
errors
cell
plan results job_results holdings
shell tree memory survey located instructions tarball distribution meter layers artifact following health
shipment wire journal leaks event
cosign archive accounts ledger mutability schema selector render catalog describe diagnose report lock pipconfig buildkit job metric hosting batch
validation baseschema pipes checkpoints retention digest history room census stack library
booking yard
clashes ground uri schedule targets scan sbom buildhost container profiles compare
matrix sdkconfig host baselock revision forecast peek specimen leftovers
instance origin
engine registry login runs rules invocation planning
ecr proof precedence sending acceptance lending inventory docker_engine
signing job_engine
bases build smoke emulate release inspection endpoint transform
stages places
sealing packing
project pipeline publishing promotion recall
lookup destination standing pinning preparing forwarding freight
releasing promoting introducing clearing ancestry
publication
locking doctor running training serving accepting original
transforming describing outlook reproducing stacking
progress options
doorstep
emulation production delivery
admission attestation estate reproduction
cli
__main__
"""
FLOOR = {name: number for number, names in enumerate(FLOORS.split("\n")) for name in names.split()}
MODULES = sorted((ROOT / "src/rlimages").glob("*.py"))
TOOLKITS = ("ray", "coach", "vw", "vowpal")


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rlimages":
            yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlimages."):
            yield str(node.module).removeprefix("rlimages.")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_floors_below(module: Path) -> None:
    if module.stem == "__init__":
        assert not list(imports(module))
        return
    upwards = [name for name in imports(module) if FLOOR[name] >= FLOOR[module.stem]]
    assert not upwards


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_names_a_toolkit(module: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Name)}
    strings = {node.value for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Constant)}
    assert not names.union(strings).intersection(TOOLKITS)


def test_only_src_is_importable() -> None:
    """A picture of an image's file system (`rootfs`) may hold a package: what reaches a path there is the image's."""
    inits = [
        path
        for folder in ("coach", "ray", "vw", "templates", "test", "scripts")
        for path in (ROOT / folder).rglob("__init__.py")
        if "rootfs" not in path.relative_to(ROOT).parts
    ]
    assert not inits
