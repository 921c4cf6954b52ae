"""The packages: each imports only from packages below it, no modules import each other in a cycle, none names a toolkit."""

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/rlimages"

PACKAGES = """
errors
system
config
matrix oci
registry engine
project
plan
build
checks supplychain
release
run emulator
cli
__main__
"""
LEVEL = {name: level for level, names in enumerate(PACKAGES.split("\n")) for name in names.split()}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
TOOLKITS = ("ray", "coach", "vw", "vowpal")


def name_of(module: Path) -> str:
    return ".".join(module.relative_to(SOURCE).with_suffix("").parts)


NAMES = {name_of(module) for module in MODULES}


def imports(module: Path) -> Iterator[str]:
    """The modules of this package that a module imports, as `package.module`: at its top, in functions and for types."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rlimages":
            base = str(node.module).partition(".")[2]
            for alias in node.names:
                name = f"{base}.{alias.name}" if base else alias.name
                if name in NAMES or base in NAMES:
                    yield name if name in NAMES else base
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("rlimages."))


IMPORTS: Mapping[str, frozenset[str]] = {name_of(module): frozenset(imports(module)) for module in MODULES}


def package(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_module_imports_only_from_packages_below_its_own(name: str) -> None:
    upwards = [
        other
        for other in IMPORTS[name]
        if package(other) != package(name) and LEVEL[package(other)] >= LEVEL[package(name)]
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert list(TopologicalSorter(IMPORTS).static_order())


def test_every_package_is_in_the_table_and_has_an_empty_init_file() -> None:
    folders = {path.parent for path in MODULES if path.parent != SOURCE}
    assert {folder.name for folder in folders} | {"errors", "__main__"} == set(LEVEL)
    assert not [folder for folder in folders if (folder / "__init__.py").read_text()]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
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


def test_the_architecture_page_names_every_package_and_only_modules_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    packages = {path.parent.name for path in MODULES if path.parent != SOURCE}
    assert packages <= {name for name in re.findall(r"^\| `([a-z]+)/` \|", page, re.MULTILINE)}
    named = re.findall(rf"`((?:{'|'.join(sorted(packages))})/[a-z_]+\.py)`", page)
    assert named
    assert not [name for name in named if not (SOURCE / name).is_file()]
