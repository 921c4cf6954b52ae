"""The digests of an image's inputs: what changes them, what does not, and how a change is explained."""

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
from rlimages.project.generated import write_generated
from rlimages.project.project import Project, load_project
from rlimages.run.affected import cell_inputs

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = """FROM debian:12 AS base-cpu
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
    contents = {**files, cell.lock: lock, cell.dockerfile: DOCKERFILE.replace("LOCK", Path(cell.lock).name)}
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return InputReader(root)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(sorted(FILES)), times=st.lists(st.integers(0, 2**31), min_size=3, max_size=3))
def test_path_order_and_time_of_the_files_do_not_count(
    tmp_path_factory: pytest.TempPathFactory, cell: Cell, order: list[str], times: list[int]
) -> None:
    first = lay_out(tmp_path_factory.mktemp("first"), cell, FILES).read(cell, {"base a": "1", "base b": "2"})
    root = tmp_path_factory.mktemp("second") / "deeper"
    reader = lay_out(root, cell, {name: FILES[name] for name in order})
    for name, time in zip(order, times, strict=True):
        os.utime(root / name, (time, time))
    second = reader.read(cell, {"base b": "2", "base a": "1"})
    assert (second.source, second.build) == (first.source, first.build)
    assert not list(explain_changes(first.entries, second))


@given(keys=st.permutations(["timeout", "where", "aliases"]))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_timeout_position_and_aliases_of_a_cell_do_not_count(tmp_path: Path, cell: Cell, keys: list[str]) -> None:
    reader = lay_out(tmp_path, cell, FILES)
    others = {"timeout": 5, "where": "other.yaml:7", "aliases": ("x",)}
    other = replace(cell, **{key: others[key] for key in keys})  # type: ignore[arg-type]
    assert reader.read(other).build == reader.read(cell).build


def test_ignored_files_and_comments_do_not_count(tmp_path: Path, cell: Cell) -> None:
    before = lay_out(tmp_path, cell, FILES).read(cell)
    extra = {"files/__pycache__/a.pyc": "x", "files/.gitkeep": "", "elsewhere": "y"}
    recommented = LOCK.replace("# header", "# another header").replace("# via ray", "# via others")
    assert lay_out(tmp_path, cell, {**FILES, **extra}, recommented).read(cell).build == before.build


@pytest.mark.parametrize(
    ("mutate", "expected"),
    [
        (lambda root: (root / "files/a").write_text("uno"), "file files/a: changed"),
        (lambda root: (root / "files/a").chmod(0o755), "file files/a: its execute permission changed"),
        (lambda root: (root / "files/new").write_text("x"), "file files/new: new"),
        (lambda root: (root / "files/b/d").unlink(), "file files/b/d: removed"),
        (lambda root: edit(root, "*.txt", "1.26.4", "1.26.5"), "lock numpy: 1.26.4 → 1.26.5"),
        (lambda root: edit(root, "*.txt", "bbbb", "dddd"), "lock numpy: 1.26.4, but with other hashes or conditions"),
        (lambda root: edit(root, "*.txt", "ray[", "six==1.16.0\nray["), "lock six: new: 1.16.0"),
        (
            lambda root: edit(root, "Dockerfile*", "COPY files/", "ENV A=1\nCOPY files/"),
            "instruction ray/docker/2.9.3/Dockerfile.tf.debian:4: new: ENV A=1",
        ),
        (
            lambda root: edit(root, "Dockerfile*", "target=/l install", "target=/l reinstall"),
            "instruction ray/docker/2.9.3/Dockerfile.tf.debian:3: changed: RUN reinstall",
        ),
    ],
)
def test_exactly_the_changed_input_is_named(
    tmp_path: Path, cell: Cell, mutate: Callable[[Path], object], expected: str
) -> None:
    before = lay_out(tmp_path, cell, FILES).read(cell)
    label = json.loads(before.labels[INPUTS_LABEL])
    mutate(tmp_path)
    now = InputReader(tmp_path).read(cell)
    assert [str(change) for change in explain_changes(label, now)] == [expected]
    assert now.source != before.source


def edit(root: Path, pattern: str, old: str, new: str) -> None:
    (path,) = root.rglob(pattern)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_removed_instructions_are_named_by_the_one_after_them(tmp_path: Path, cell: Cell) -> None:
    before = lay_out(tmp_path, cell, {**FILES, "x": "y"})
    edit(tmp_path, "Dockerfile*", "COPY files/ /", "ENV A=1\nENV B=2\nCOPY files/ /")
    entries = before.read(cell).entries
    edit(tmp_path, "Dockerfile*", "ENV A=1\nENV B=2\n", "")
    changes = [str(change) for change in explain_changes(entries, InputReader(tmp_path).read(cell))]
    assert changes == ["instruction ray/docker/2.9.3/Dockerfile.tf.debian:4: 2 instructions removed before this"]


def test_base_digest_and_processor_are_inputs(tmp_path: Path, cell: Cell) -> None:
    reader = lay_out(tmp_path, cell, FILES)
    before = reader.read(cell, {"base debian:12": "sha256:" + "a" * 64})
    after = reader.read(cell, {"base debian:12": "sha256:" + "b" * 64})
    assert [str(change) for change in explain_changes(before.entries, after)] == [
        "base debian:12: aaaaaaaaaaaa → bbbbbbbbbbbb"
    ]
    assert after.source == before.source
    assert after.build != before.build
    gpu = reader.read(replace(cell, processor=Processor.GPU))
    assert "argument processor: cpu → gpu" in [str(change) for change in explain_changes(before.entries, gpu)]
    assert reader.read(cell, {"base debian:12": ""}).unknown == ("base debian:12",)


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
    """Return cell id -> its changes when one text of one file is replaced; then restore the file."""
    before = cell_inputs(load_project(root / "build_matrix.yaml", root))
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new, 1))
    try:
        at = load_project(root / "build_matrix.yaml", root)
        at = rendered(at)
        explained = {
            name: [str(c) for c in explain_changes(before[name].entries, now)] for name, now in cell_inputs(at).items()
        }
        return {name: changes for name, changes in explained.items() if changes}
    finally:
        (root / path).write_text(text)
        rendered(load_project(root / "build_matrix.yaml", root))


def rendered(project: Project) -> Project:
    list(write_generated(project, project.cells))
    return project


def test_a_file_of_a_toolkit_changes_only_its_cells(copied: Path) -> None:
    changes_by_cell = changed(copied, "vw/rootfs/usr/local/lib/rlimages/serve", "\n", "\n# more\n")
    assert set(changes_by_cell) == {
        cell.id for cell in load_project(copied / "build_matrix.yaml", copied).cells if cell.toolkit == "vw"
    }
    assert {tuple(changes) for changes in changes_by_cell.values()} == {
        ("file vw/rootfs/usr/local/lib/rlimages/serve: changed",)
    }


@pytest.mark.parametrize("path", ["ray/config.py", "ray_launcher.py"])
def test_a_library_file_of_one_toolkit_changes_its_images_alone(copied: Path, path: str) -> None:
    changes_by_cell = changed(copied, f"src/sagemaker_rl/{path}", "\n", "\n# more\n")
    cells = load_project(copied / "build_matrix.yaml", copied).cells
    assert set(changes_by_cell) == {cell.id for cell in cells if cell.toolkit == "ray"}
    assert {tuple(changes) for changes in changes_by_cell.values()} == {(f"file src/sagemaker_rl/{path}: changed",)}


@pytest.mark.parametrize("path", ["job.py", "serving/formats.py"])
def test_a_common_library_file_changes_all_images(copied: Path, path: str) -> None:
    changes_by_cell = changed(copied, f"src/sagemaker_rl/{path}", "\n", "\n# more\n")
    assert set(changes_by_cell) == {cell.id for cell in load_project(copied / "build_matrix.yaml", copied).cells}


def test_a_lock_line_changes_only_its_cell(copied: Path) -> None:
    changes_by_cell = changed(copied, "vw/lock/vw-9.11.9-cpu-debian.txt", "bcrypt==5.0.0", "bcrypt==5.0.1")
    assert changes_by_cell == {"vw-9.11.9-cpu-debian": ["lock bcrypt: 5.0.0 → 5.0.1"]}


def test_the_base_image_of_the_gpu_cell_does_not_change_the_cpu_cell(copied: Path) -> None:
    changes_by_cell = changed(
        copied, "build_matrix.yaml", "pytorch-training:1.8.1-gpu-py36", "pytorch-training:1.8.2-gpu-py36"
    )
    assert set(changes_by_cell) == {"ray-1.6.0-torch-gpu"}
    kinds = {change.partition(" ")[0] for change in changes_by_cell["ray-1.6.0-torch-gpu"]}
    assert kinds == {"base", "instruction"}


def test_lines_of_a_lock_are_grouped_by_distribution() -> None:
    entries = lock_entries("Foo_Bar[x]==1 ; python_version<'3' --hash=a\nfoo-bar==2\nbaz @ file:///x\n")
    assert set(entries) == {"foo-bar", "baz"}
    assert entries["foo-bar"].split()[::2] == ["1", "2"]
