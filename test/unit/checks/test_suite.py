from dataclasses import replace

import pytest

from rlimages.checks.suite import find_checks, suite_digest


@pytest.fixture
def root(tmp_path):
    for path in ("templates/smoke/check_labels.py", "ray/smoke/check_trains.py", "vw/smoke/check_learns.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"# {path}\n")
    return tmp_path


def names(checks) -> list[str]:
    return [check.program.name for check in checks]


def test_a_cell_has_the_checks_of_all_images_and_of_its_toolkit(root, cell) -> None:
    assert names(find_checks((root,), cell, {})) == ["check_labels.py", "check_trains.py"]


def test_a_cell_that_extends_another_has_its_checks_too(root, cell) -> None:
    child = replace(cell, toolkit="vw", extends=cell.id)
    assert names(find_checks((root,), child, {cell.id: cell})) == [
        "check_labels.py",
        "check_trains.py",
        "check_learns.py",
    ]


def test_the_checks_of_the_parents_toolkit_verify_the_parent(root, cell) -> None:
    child = replace(cell, toolkit="vw", version="1.0", extends=cell.id)
    versions = {check.name: check.cell.version for check in find_checks((root,), child, {cell.id: cell})}
    assert versions == {"labels": "1.0", "trains": cell.version, "learns": "1.0"}


def test_the_checks_of_a_parent_project_are_found_too(root, cell, tmp_path) -> None:
    own = tmp_path / "own"
    (own / "maze/smoke").mkdir(parents=True)
    (own / "maze/smoke/check_maze.py").write_text("# own\n")
    child = replace(cell, toolkit="maze", extends=cell.id)
    found = find_checks((own, root), child, {cell.id: cell})
    assert names(found) == ["check_labels.py", "check_trains.py", "check_maze.py"]


def test_a_toolkits_check_replaces_the_common_one_of_that_name(root, cell) -> None:
    (root / "ray/smoke/check_labels.py").write_text("# ray's\n")
    found = find_checks((root,), cell, {})
    assert names(found) == ["check_labels.py", "check_trains.py"]
    assert found[0].program.parent.parent.name == "ray"


def test_other_files_are_not_checks(root, cell) -> None:
    (root / "ray/smoke/notes.py").write_text("")
    assert "notes.py" not in names(find_checks((root,), cell, {}))


def test_the_digest_of_a_suite_depends_on_names_and_contents_and_not_on_the_order(root) -> None:
    programs = sorted(root.rglob("check_*.py"))
    digest = suite_digest(programs)
    assert digest.startswith("sha256:")
    assert suite_digest(programs[::-1]) == digest
    programs[0].write_text("# stricter\n")
    assert suite_digest(programs) != digest
