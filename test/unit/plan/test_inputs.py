"""The digests of what decides an image: what they see, what they don't, and how a difference is explained."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlimages.matrix.cell import Cell, Processor
from rlimages.oci.labels import INPUTS_LABEL
from rlimages.plan.inputs import InputReader, explain_changes, lock_entries
from rlimages.project.project import Project, load_project
from rlimages.run.affected import cell_inputs

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """FROM debian:12 AS base-cpu
FROM base-${processor}
RUN --mount=type=bind,source=ray/lock/LOCK,target=/l install
COPY files/ /
"""
LOCK = """# header
numpy==1.26.4 \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
    # via ray
ray[rllib]==2.9.3 --hash=sha256:cccc
"""
FILES = {"files/a": "one", "files/b/c": "two", "files/b/d": "three"}


def lay_out(root: Path, cell: Cell, files: dict[str, str], lock: str = LOCK) -> InputReader:
    contents = {**files, cell.lock: lock, cell.recipe: RECIPE.replace("LOCK", Path(cell.lock).name)}
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return InputReader(root)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(sorted(FILES)), times=st.lists(st.integers(0, 2**31), min_size=3, max_size=3))
def test_neither_place_nor_order_nor_time_counts(
    tmp_path_factory: pytest.TempPathFactory, cell: Cell, order: list[str], times: list[int]
) -> None:
    here = lay_out(tmp_path_factory.mktemp("here"), cell, FILES).inputs(cell, {"base a": "1", "base b": "2"})
    root = tmp_path_factory.mktemp("there") / "deeper"
    ledger = lay_out(root, cell, {name: FILES[name] for name in order})
    for name, time in zip(order, times, strict=True):
        os.utime(root / name, (time, time))
    there = ledger.inputs(cell, {"base b": "2", "base a": "1"})
    assert (there.source, there.build) == (here.source, here.build)
    assert not list(explain_changes(here.entries, there))


@given(keys=st.permutations(["timeout", "where", "aliases"]))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_does_not_change_the_result_does_not_count(tmp_path: Path, cell: Cell, keys: list[str]) -> None:
    ledger = lay_out(tmp_path, cell, FILES)
    others = {"timeout": 5, "where": "other.yaml:7", "aliases": ("x",)}
    other = replace(cell, **{key: others[key] for key in keys})  # type: ignore[arg-type]
    assert ledger.inputs(other).build == ledger.inputs(cell).build


def test_ignored_files_and_comments_do_not_count(tmp_path: Path, cell: Cell) -> None:
    before = lay_out(tmp_path, cell, FILES).inputs(cell)
    extra = {"files/__pycache__/a.pyc": "x", "files/.gitkeep": "", "elsewhere": "y"}
    spoken = LOCK.replace("# header", "# another header").replace("# via ray", "# via others")
    assert lay_out(tmp_path, cell, {**FILES, **extra}, spoken).inputs(cell).build == before.build


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (lambda root: (root / "files/a").write_text("uno"), "file files/a: changed"),
        (lambda root: (root / "files/a").chmod(0o755), "file files/a: may be executed or not, now"),
        (lambda root: (root / "files/new").write_text("x"), "file files/new: new"),
        (lambda root: (root / "files/b/d").unlink(), "file files/b/d: gone"),
        (lambda root: edit(root, "*.txt", "1.26.4", "1.26.5"), "lock numpy: 1.26.4 → 1.26.5"),
        (lambda root: edit(root, "*.txt", "bbbb", "dddd"), "lock numpy: 1.26.4, but with other hashes or conditions"),
        (lambda root: edit(root, "*.txt", "ray[", "six==1.16.0\nray["), "lock six: new: 1.16.0"),
        (
            lambda root: edit(root, "Dockerfile*", "COPY files/", "ENV A=1\nCOPY files/"),
            "recipe ray/docker/2.9.3/Dockerfile.tf.debian:4: new: ENV A=1",
        ),
        (
            lambda root: edit(root, "Dockerfile*", "target=/l install", "target=/l reinstall"),
            "recipe ray/docker/2.9.3/Dockerfile.tf.debian:3: changed: RUN reinstall",
        ),
    ],
)
def test_one_changed_input_is_named_and_only_it(
    tmp_path: Path, cell: Cell, mutate: Callable[[Path], object], expected: str
) -> None:
    before = lay_out(tmp_path, cell, FILES).inputs(cell)
    told = json.loads(before.labels[INPUTS_LABEL])
    mutate(tmp_path)
    now = InputReader(tmp_path).inputs(cell)
    assert [str(change) for change in explain_changes(told, now)] == [expected]
    assert now.source != before.source


def edit(root: Path, pattern: str, old: str, new: str) -> None:
    (path,) = root.rglob(pattern)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_taken_instruction_is_named_by_its_place(tmp_path: Path, cell: Cell) -> None:
    before = lay_out(tmp_path, cell, {**FILES, "x": "y"})
    edit(tmp_path, "Dockerfile*", "COPY files/ /", "ENV A=1\nENV B=2\nCOPY files/ /")
    told = before.inputs(cell).entries
    edit(tmp_path, "Dockerfile*", "ENV A=1\nENV B=2\n", "")
    changes = [str(change) for change in explain_changes(told, InputReader(tmp_path).inputs(cell))]
    assert changes == ["recipe ray/docker/2.9.3/Dockerfile.tf.debian:4: 2 instructions less before this"]


def test_ground_and_processor_are_inputs_too(tmp_path: Path, cell: Cell) -> None:
    ledger = lay_out(tmp_path, cell, FILES)
    before = ledger.inputs(cell, {"base debian:12": "sha256:" + "a" * 64})
    after = ledger.inputs(cell, {"base debian:12": "sha256:" + "b" * 64})
    assert [str(change) for change in explain_changes(before.entries, after)] == [
        "base debian:12: aaaaaaaaaaaa → bbbbbbbbbbbb"
    ]
    assert after.source == before.source
    assert after.build != before.build
    gpu = ledger.inputs(replace(cell, processor=Processor.GPU))
    assert "argument processor: cpu → gpu" in [str(change) for change in explain_changes(before.entries, gpu)]
    assert ledger.inputs(cell, {"base debian:12": ""}).unknown == ("base debian:12",)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project, for one change after another."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("coach", "ray", "vw", "templates", "src/sagemaker_rl"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("build_matrix.yaml", ".dockerignore"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def changed(root: Path, path: str, old: str, new: str) -> dict[str, list[str]]:
    """Cell -> what is said of it, when one text of one file becomes another; the file is as before afterwards."""
    before = cell_inputs(load_project(root / "build_matrix.yaml", root))
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new, 1))
    try:
        at = load_project(root / "build_matrix.yaml", root)
        at = rendered(at)
        said = {
            name: [str(c) for c in explain_changes(before[name].entries, now)] for name, now in cell_inputs(at).items()
        }
        return {name: changes for name, changes in said.items() if changes}
    finally:
        (root / path).write_text(text)
        rendered(load_project(root / "build_matrix.yaml", root))


def rendered(at: Project) -> Project:
    list(at.write(at.cells))
    return at


def test_a_file_of_one_toolkit_is_named_for_its_cells_alone(copied: Path) -> None:
    said = changed(copied, "vw/rootfs/usr/local/lib/rlimages/serve", "\n", "\n# more\n")
    assert set(said) == {
        cell.id for cell in load_project(copied / "build_matrix.yaml", copied).cells if cell.toolkit == "vw"
    }
    assert {tuple(changes) for changes in said.values()} == {("file vw/rootfs/usr/local/lib/rlimages/serve: changed",)}


@pytest.mark.parametrize("path", ["ray/config.py", "ray_launcher.py"])
def test_a_library_file_of_one_toolkit_changes_its_images_alone(copied: Path, path: str) -> None:
    said = changed(copied, f"src/sagemaker_rl/{path}", "\n", "\n# more\n")
    cells = load_project(copied / "build_matrix.yaml", copied).cells
    assert set(said) == {cell.id for cell in cells if cell.toolkit == "ray"}
    assert {tuple(changes) for changes in said.values()} == {(f"file src/sagemaker_rl/{path}: changed",)}


@pytest.mark.parametrize("path", ["job.py", "serving/formats.py"])
def test_a_common_library_file_changes_all_images(copied: Path, path: str) -> None:
    said = changed(copied, f"src/sagemaker_rl/{path}", "\n", "\n# more\n")
    assert set(said) == {cell.id for cell in load_project(copied / "build_matrix.yaml", copied).cells}


def test_a_lock_line_is_named_for_its_cell_alone(copied: Path) -> None:
    said = changed(copied, "vw/lock/vw-9.11.9-cpu-debian.txt", "bcrypt==5.0.0", "bcrypt==5.0.1")
    assert said == {"vw-9.11.9-cpu-debian": ["lock bcrypt: 5.0.0 → 5.0.1"]}


def test_what_only_the_gpu_stands_on_is_not_the_cpus_affair(copied: Path) -> None:
    said = changed(copied, "build_matrix.yaml", "pytorch-training:1.8.1-gpu-py36", "pytorch-training:1.8.2-gpu-py36")
    assert set(said) == {"ray-1.6.0-torch-gpu"}
    kinds = {change.partition(" ")[0] for change in said["ray-1.6.0-torch-gpu"]}
    assert kinds == {"base", "recipe"}


def test_lines_of_a_lock_are_told_apart_by_name() -> None:
    told = lock_entries("Foo_Bar[x]==1 ; python_version<'3' --hash=a\nfoo-bar==2\nbaz @ file:///x\n")
    assert set(told) == {"foo-bar", "baz"}
    assert told["foo-bar"].split()[::2] == ["1", "2"]
