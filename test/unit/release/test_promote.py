"""Which images of a target may be promoted."""

import json
from pathlib import Path

import pytest

from rlimages.checks.pass_record import PassRecord, attach_record, store_record
from rlimages.checks.suite import suite_digest
from rlimages.errors import RegistryError
from rlimages.release.promote import find_candidates


@pytest.fixture
def program(tmp_path) -> Path:
    path = tmp_path / "check_import.py"
    path.write_text("print('ok')\n")
    return path


def record_of(image, cell, program) -> PassRecord:
    return PassRecord(
        cell=cell.id,
        image=image.manifest.image,
        suite=suite_digest([program]),
        checks={"import": "passed"},
        at="2026-11-21T00:00:00+00:00",
    )


def test_an_image_with_a_pass_record_beside_it_may_be_promoted(scene, image, cell, program, tmp_path) -> None:
    made, tested = scene(), image("a", "2.0")
    repository = f"team/{cell.repository}"
    made.client.put(repository, cell.tag, tested)
    record = record_of(tested, cell, program)
    attach_record(record, tested.manifest, made.client, repository)
    (found,) = find_candidates([cell], made.connection, lambda _cell: [program], tmp_path / "passes")
    assert (found.item.cell, found.item.image, found.item.tags) == (cell.id, tested.manifest.image, cell.tags)
    assert found.pass_record == record


def test_a_pass_record_of_this_machine_is_enough(scene, image, cell, program, tmp_path) -> None:
    made, tested = scene(), image("a", "2.0")
    made.client.put(f"team/{cell.repository}", cell.tag, tested)
    store_record(record_of(tested, cell, program), tmp_path)
    (found,) = find_candidates([cell], made.connection, lambda _cell: [program], tmp_path)
    assert json.loads(found.pass_record.content)["checks"] == {"import": "passed"}


def test_a_changed_check_makes_the_pass_record_worthless(scene, image, cell, program, tmp_path) -> None:
    made, tested = scene(), image("a", "2.0")
    made.client.put(f"team/{cell.repository}", cell.tag, tested)
    store_record(record_of(tested, cell, program), tmp_path)
    program.write_text("print('better')\n")
    with pytest.raises(RegistryError) as raised:
        find_candidates([cell], made.connection, lambda _cell: [program], tmp_path)
    assert str(raised.value) == (
        f"nothing is promoted:\n  registry/team/{cell.repository}:{cell.tag} ({tested.manifest.digest}) has no recorded "
        f"PASS of the checks as they are now; run `rlimages publish --select {cell.id}` to target/us again"
    )


def test_an_image_that_does_not_exist_is_an_error(scene, cell, program, tmp_path) -> None:
    with pytest.raises(RegistryError) as raised:
        find_candidates([cell], scene().connection, lambda _cell: [program], tmp_path)
    assert str(raised.value) == (
        f"nothing is promoted:\n  registry/team/{cell.repository}:{cell.tag} does not exist; "
        f"publish {cell.id} to target/us first"
    )
