"""The order of builds, the build history, and the removal of images of this checkout that lost their name."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from one_cell import TOOLKIT

from rlimages.plan.history import Measurement, read_history, record_measurements
from rlimages.plan.planner import make_plan
from rlimages.plan.results import Outcome
from rlimages.plan.step import Stage
from rlimages.project.state import STATE, StateFolder
from rlimages.run.scheduler import run_plan
from rlimages.run.stages import StageContext

FROM = "FROM debian:bookworm-slim\n"


@pytest.fixture
def write(tmp_path, one_cell):
    """Return a function that writes a cell whose build is never cached."""

    def write(version: str, command: str = "true"):
        label = f"LABEL rlimages.cell={one_cell.make_cell(version).id}\n"
        return one_cell.write_project(tmp_path, f"{FROM}RUN echo {time.time_ns()}; {command}\n{label}", {}, version)

    return write


@pytest.fixture
def build(engine, tmp_path, stop):
    def build(*cells, root=tmp_path, on_event=lambda _event: None):
        folder = tmp_path / "runs" / f"{time.time_ns()}"
        folder.mkdir(parents=True)
        context = StageContext(
            plan=make_plan(cells, jobs=1, timeout=60),
            stages=(Stage.BUILD,),
            roots=(root,),
            folder=folder,
            engine=engine,
            stop=stop,
            state=StateFolder(tmp_path / STATE),
        )
        return run_plan(context, on_event=on_event)

    return build


def unnamed_images(client) -> set[str]:
    """Return the ids of the images of this worker's cells that have no name."""
    images = client.api.images(filters={"dangling": True, "label": "rlimages.cell"})
    return {image["Id"] for image in images if image["Labels"]["rlimages.cell"].startswith(f"{TOOLKIT}-")}


def test_the_second_run_starts_with_the_slowest_cell_of_the_first(write, build, tmp_path) -> None:
    versions = {"1": "sleep 0.1", "2": "sleep 2", "3": "sleep 0.1"}
    started_cells: list[str] = []

    def note_start(event) -> None:
        if event.outcome is None and event.cell not in started_cells:
            started_cells.append(event.cell)

    cells = [write(version, command) for version, command in versions.items()]
    assert build(*cells).outcome is Outcome.PASSED
    history = read_history(StateFolder(tmp_path / STATE))
    assert history.estimate_build(cells[1]) > 2
    cells = [write(version, command) for version, command in versions.items()]
    assert build(*cells, on_event=note_start).outcome is Outcome.PASSED
    assert started_cells == sorted(
        (cell.id for cell in cells), key=lambda name: -history.records[name].builds[0].seconds
    )


def test_a_build_from_the_build_cache_is_not_recorded_in_the_history(write, build, tmp_path) -> None:
    cell = write("1")
    for _ in range(2):
        build(cell)
    assert len(read_history(StateFolder(tmp_path / STATE)).records[cell.id].builds) == 1


def test_an_unnamed_image_that_was_in_use_is_removed_by_the_next_run(write, build, client) -> None:
    first_image = build(write("1")).cells[0].image.id
    container = client.containers.create(first_image, ["true"])
    try:
        build(write("1"))
        assert first_image in unnamed_images(client)
    finally:
        container.remove(force=True)
    report = build(write("1"))
    assert first_image not in unnamed_images(client)
    assert any(first_image[7:19] in note for note in report.notes)


def test_two_simultaneous_builds_of_one_name_leave_no_unnamed_image(build, client, tmp_path, one_cell) -> None:
    """Both builds start before either has an image, so neither knows the image of the other."""
    before = unnamed_images(client)

    def build_in(name: str, seconds: int) -> str:
        label = f"LABEL rlimages.cell={one_cell.make_cell('1').id}\n"
        dockerfile = f"{FROM}RUN sleep {seconds}; echo {time.time_ns()}\n{label}"
        cell = one_cell.write_project(tmp_path / name, dockerfile, {}, "1")
        return str(build(cell, root=tmp_path / name).cells[0].image.id)

    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(build_in, ("a", "b"), (1, 2)))) == 2
    assert unnamed_images(client) <= before


def test_an_unnamed_image_of_another_checkout_is_not_removed(write, build, client, tmp_path) -> None:
    other_image = build(write("1")).cells[0].image.id
    (StateFolder(tmp_path / STATE).history).unlink()
    container = client.containers.create(other_image, ["true"])
    build(write("1"))
    container.remove(force=True)
    build(write("1"))
    try:
        assert other_image in unnamed_images(client)
    finally:
        client.api.remove_image(other_image)


def test_the_history_is_used_to_estimate_the_next_build(write, build, tmp_path) -> None:
    cell = write("1")
    record_measurements(StateFolder(tmp_path / STATE), cell, build=Measurement(seconds=100, date="2026-01-01", size=5))
    build(cell)
    history = read_history(StateFolder(tmp_path / STATE))
    assert 50 < history.estimate_build(cell) < 100


def test_the_data_folder_of_the_engine_is_a_local_folder_or_unknown(engine) -> None:
    folder = engine.data_folder()
    assert folder is None or folder.is_dir()
