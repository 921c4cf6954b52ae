from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from rlimages.matrix.cell import Cell, Framework
from rlimages.project.project import Project
from rlimages.project.requirements_lock import (
    LockInputs,
    lock_inputs,
    lock_text,
    locked_packages,
    stale_locks,
    uv_commands,
)


@pytest.fixture
def inputs(cell: Cell) -> LockInputs:
    return lock_inputs(cell)


def commands(inputs: LockInputs) -> list[list[str]]:
    return list(uv_commands("uv", "python3.11", inputs, Path("/x")))


def test_packages_are_resolved_as_of_a_moment_in_utc(inputs: LockInputs) -> None:
    (argv,) = commands(inputs)
    assert argv[argv.index("--exclude-newer") + 1] == "2024-03-01T00:00:00Z"
    assert argv[argv.index("--python-version") + 1] == "3.11"
    assert "--generate-hashes" in argv


def test_the_framework_of_the_base_image_constrains_the_lock_and_is_not_installed(cell: Cell) -> None:
    base = replace(cell.base, framework=Framework(name="tf", version="2.13.0"))
    inputs = lock_inputs(replace(cell, base=base), "tensorflow")
    assert inputs.files()["brought.in"] == "tensorflow==2.13.0\n"
    first, second = commands(inputs)
    assert first[3:7] == ["/x/requirements.in", "/x/brought.in", "--output-file", "/x/brought.txt"]
    assert "/x/brought.in" not in second
    assert second[second.index("--constraint") + 1] == "/x/brought.txt"


def test_a_verbatim_line_is_not_resolved_and_is_added_to_the_lock(cell: Cell) -> None:
    line = "pandas==0.24.2 --hash=sha256:" + "0" * 64
    inputs = lock_inputs(replace(cell, requirements=replace(cell.requirements, verbatim=(line,))))
    (argv,) = commands(inputs)
    assert inputs.files()["excludes.txt"] == "pandas\n"
    assert argv[argv.index("--excludes") + 1] == "/x/excludes.txt"
    assert lock_text(inputs, "lz4==1 \\\n").endswith(f"lz4==1 \\\n{line}\n")


@pytest.mark.parametrize(
    "change",
    [
        {"as_of": "2024-03-02"},
        {"direct": ("ray[rllib]==2.9.3",)},
        {"overrides": ("numpy==1.24.3",)},
        {"build": ("setuptools<58",)},
        {"verbatim": ("pandas==0.24.2 --hash=sha256:" + "0" * 64,)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_input_makes_a_lock_stale(cell: Cell, change: dict[str, object]) -> None:
    changed = replace(cell, requirements=replace(cell.requirements, **change))  # type: ignore[arg-type]
    assert lock_inputs(changed).digest != lock_inputs(cell).digest


def test_the_order_of_requirements_does_not_make_a_lock_stale(cell: Cell) -> None:
    reversed_ = replace(cell, requirements=replace(cell.requirements, direct=cell.requirements.direct[::-1]))
    assert lock_inputs(reversed_).digest == lock_inputs(cell).digest


def test_another_tag_does_not_make_a_lock_stale(cell: Cell) -> None:
    assert lock_inputs(replace(cell, tag="other")).digest == lock_inputs(cell).digest


def test_missing_stale_and_orphaned_locks_are_reported(inputs: LockInputs, tmp_path: Path) -> None:
    path = tmp_path / inputs.cell.lock
    assert [line.split(": ")[1][:7] for line in stale_locks([inputs], tmp_path, ["ray"])] == ["missing"]
    path.parent.mkdir(parents=True)
    path.write_text(lock_text(inputs, "lz4==4.3.3 \\\n    --hash=sha256:00\n"))
    assert not list(stale_locks([inputs], tmp_path, ["ray"]))
    path.with_name("ray-0.0.0-cpu.txt").write_text("")
    assert list(stale_locks([inputs], tmp_path, ["ray"])) == [
        "ray/lock/ray-0.0.0-cpu.txt: belongs to no cell; delete it"
    ]


def test_a_lock_is_parsed_to_names_and_versions(inputs: LockInputs) -> None:
    resolved = "Keras_Applications[x]==1.0 \\\n    --hash=sha256:00  # via tf\nlz4==4.3.3  # via -r x\n"
    assert locked_packages(lock_text(inputs, resolved)) == {"keras-applications": "1.0", "lz4": "4.3.3"}


def test_every_lock_has_the_packages_that_its_cell_pins(project: Project) -> None:
    """The lock installs every version that the matrix pins, unless the base image provides the package."""
    wrong = []
    for cell in project.cells:
        locked = locked_packages((project.root / cell.lock).read_text())
        (inputs,) = project.lock_inputs((cell,))
        provided = {Requirement(text).name for text in inputs.provided}
        wrong += [
            f"{cell.id}: {name} {version} but {locked.get(name)}"
            for name, version in cell.inventory.items()
            if name not in provided and (name not in locked or Version(locked[name]) != Version(version))
        ]
    assert not wrong


def test_every_package_of_every_lock_has_a_hash(project: Project) -> None:
    for cell in project.cells:
        text = (project.root / cell.lock).read_text()
        entries = [entry for entry in text.split("\n") if entry and not entry.startswith(("#", " "))]
        assert all(entry.endswith("\\") or " --hash=sha256:" in entry for entry in entries), cell.id
