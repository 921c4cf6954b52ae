import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from rlimages.matrix.cell import Cell
from rlimages.plan.history import (
    KEPT,
    KEPT_IMAGES,
    CellHistory,
    History,
    Measurement,
    read_history,
    record_measurements,
)
from rlimages.project.state import StateFolder

DAY = "2026-01-01T00:00:00+00:00"


def took(*seconds: float, size: int = 0) -> tuple[Measurement, ...]:
    return tuple(Measurement(seconds=each, date=DAY, size=size) for each in seconds)


def test_the_median_of_a_cells_builds_and_checks_is_expected(cell) -> None:
    past = History(records={cell.id: CellHistory(toolkit="ray", builds=took(50, 900, 60), checks=took(9, 11, 10))})
    assert (past.estimate_build(cell), past.estimate_checks(cell), past.estimate(cell)) == (60, 10, 70)
    assert past.has_build(cell)


def test_of_an_unknown_cell_what_its_toolkit_takes_is_expected(cell) -> None:
    known = {
        "ray-1": CellHistory(toolkit="ray", builds=took(100, size=10)),
        "ray-2": CellHistory(toolkit="ray", builds=took(300, size=30)),
        "vw-1": CellHistory(toolkit="vw", builds=took(8, size=1)),
    }
    past = History(records=known)
    assert (past.estimate(cell), past.estimate_size(cell)) == (200, 20)
    assert past.estimate(replace(cell, toolkit="coach")) == 100
    assert not past.has_build(cell)


def test_without_a_history_nothing_is_expected(cell) -> None:
    assert History().estimate(cell) is None
    assert History().estimate_size(cell) is None


def test_a_cell_of_which_only_images_are_known_is_unknown(cell, tmp_path) -> None:
    record_measurements(StateFolder(tmp_path), cell, image="sha256:1")
    past = read_history(StateFolder(tmp_path))
    assert not past.has_build(cell)
    assert past.estimate(cell) is None
    assert past.images() == {"sha256:1"}


def test_the_last_few_are_kept(cell, tmp_path) -> None:
    for number in range(KEPT + 3):
        (build,) = took(number, size=number)
        record_measurements(StateFolder(tmp_path), cell, build=build, image=f"sha256:{number}")
    record = read_history(StateFolder(tmp_path)).records[cell.id]
    assert [each.seconds for each in record.builds] == [3, 4, 5, 6, 7]
    assert record.toolkit == cell.toolkit


def test_an_image_is_remembered_once_and_only_so_many(cell, tmp_path) -> None:
    names = [f"sha256:{number}" for number in (*range(KEPT_IMAGES + 2), 5)]
    for name in names:
        record_measurements(StateFolder(tmp_path), cell, image=name)
    images = read_history(StateFolder(tmp_path)).records[cell.id].images
    assert len(images) == KEPT_IMAGES
    assert images[-1] == "sha256:5"
    assert len(set(images)) == KEPT_IMAGES


def test_nothing_to_say_writes_nothing(cell, tmp_path) -> None:
    record_measurements(StateFolder(tmp_path), cell)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 2, "cells": {}}', '{"version": 1}', '{"version": 1, "cells": {"a": 1}}',
     '{"version": 1, "cells": {"a": {"toolkit": "b", "builds": [{"seconds": "x"}], "checks": [], "images": []}}}'],
)  # fmt: skip
def test_a_broken_file_is_said_and_begun_anew(cell, tmp_path, text) -> None:
    (StateFolder(tmp_path).history).write_text(text)
    past = read_history(StateFolder(tmp_path))
    assert not past.records
    assert "a new one is started" in past.note
    assert str(StateFolder(tmp_path).history) in past.note
    record_measurements(StateFolder(tmp_path), cell, image="sha256:1")
    assert not read_history(StateFolder(tmp_path)).note
    assert json.loads((StateFolder(tmp_path).history).read_text())["cells"].keys() == {cell.id}


def test_no_file_is_no_history_and_nothing_to_say_of(tmp_path) -> None:
    assert read_history(StateFolder(tmp_path)) == History()


def write(folder: Path, cell: Cell, number: int) -> int:
    record_measurements(folder, replace(cell, version=f"{number}.0"), image=f"sha256:{number}")
    return os.getpid()


def test_processes_that_write_at_once_all_get_in(cell, tmp_path) -> None:
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(partial(write, tmp_path, cell), range(20)))
    assert len(read_history(StateFolder(tmp_path)).records) == 20
