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


def measurements(*seconds: float, size: int = 0) -> tuple[Measurement, ...]:
    return tuple(Measurement(seconds=each, date=DAY, size=size) for each in seconds)


def test_the_estimate_of_a_cell_is_its_median(cell) -> None:
    history = History(
        records={cell.id: CellHistory(toolkit="ray", builds=measurements(50, 900, 60), checks=measurements(9, 11, 10))}
    )
    assert (history.estimate_build(cell), history.estimate_checks(cell), history.estimate(cell)) == (60, 10, 70)
    assert history.has_build(cell)


def test_the_estimate_of_an_unmeasured_cell_is_that_of_its_toolkit_or_of_all(cell) -> None:
    records = {
        "ray-1": CellHistory(toolkit="ray", builds=measurements(100, size=10)),
        "ray-2": CellHistory(toolkit="ray", builds=measurements(300, size=30)),
        "vw-1": CellHistory(toolkit="vw", builds=measurements(8, size=1)),
    }
    history = History(records=records)
    assert (history.estimate(cell), history.estimate_size(cell)) == (200, 20)
    assert history.estimate(replace(cell, toolkit="coach")) == 100
    assert not history.has_build(cell)


def test_an_empty_history_gives_no_estimate(cell) -> None:
    assert History().estimate(cell) is None
    assert History().estimate_size(cell) is None


def test_a_cell_with_images_but_no_builds_has_no_estimate(cell, tmp_path) -> None:
    record_measurements(StateFolder(tmp_path), cell, image="sha256:1")
    history = read_history(StateFolder(tmp_path))
    assert not history.has_build(cell)
    assert history.estimate(cell) is None
    assert history.images() == {"sha256:1"}


def test_only_the_newest_measurements_are_kept(cell, tmp_path) -> None:
    for number in range(KEPT + 3):
        (build,) = measurements(number, size=number)
        record_measurements(StateFolder(tmp_path), cell, build=build, image=f"sha256:{number}")
    record = read_history(StateFolder(tmp_path)).records[cell.id]
    assert [each.seconds for each in record.builds] == [3, 4, 5, 6, 7]
    assert record.toolkit == cell.toolkit


def test_each_image_is_kept_once_and_only_the_newest(cell, tmp_path) -> None:
    names = [f"sha256:{number}" for number in (*range(KEPT_IMAGES + 2), 5)]
    for name in names:
        record_measurements(StateFolder(tmp_path), cell, image=name)
    images = read_history(StateFolder(tmp_path)).records[cell.id].images
    assert len(images) == KEPT_IMAGES
    assert images[-1] == "sha256:5"
    assert len(set(images)) == KEPT_IMAGES


def test_no_measurement_writes_no_file(cell, tmp_path) -> None:
    record_measurements(StateFolder(tmp_path), cell)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 2, "cells": {}}', '{"version": 1}', '{"version": 1, "cells": {"a": 1}}',
     '{"version": 1, "cells": {"a": {"toolkit": "b", "builds": [{"seconds": "x"}], "checks": [], "images": []}}}'],
)  # fmt: skip
def test_a_broken_file_is_noted_and_replaced(cell, tmp_path, text) -> None:
    StateFolder(tmp_path).history.write_text(text)
    history = read_history(StateFolder(tmp_path))
    assert not history.records
    assert "a new one is started" in history.note
    assert str(StateFolder(tmp_path).history) in history.note
    record_measurements(StateFolder(tmp_path), cell, image="sha256:1")
    assert not read_history(StateFolder(tmp_path)).note
    assert json.loads(StateFolder(tmp_path).history.read_text())["cells"].keys() == {cell.id}


def test_a_missing_file_is_an_empty_history_without_note(tmp_path) -> None:
    assert read_history(StateFolder(tmp_path)) == History()


def write(folder: Path, cell: Cell, number: int) -> int:
    record_measurements(StateFolder(folder), replace(cell, version=f"{number}.0"), image=f"sha256:{number}")
    return os.getpid()


def test_no_measurement_is_lost_when_processes_write_at_the_same_time(cell, tmp_path) -> None:
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(partial(write, tmp_path, cell), range(20)))
    assert len(read_history(StateFolder(tmp_path)).records) == 20
