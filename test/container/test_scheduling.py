"""Which cell is begun first, what is remembered, and that what lost its name goes, if it was made here."""

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
    """A cell whose build runs something new each time."""

    def write(version: str, more: str = "true"):
        label = f"LABEL rlimages.cell={one_cell.make_cell(version).id}\n"
        return one_cell.write_project(tmp_path, f"{FROM}RUN echo {time.time_ns()}; {more}\n{label}", {}, version)

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


def nameless(client) -> set[str]:
    """The ids of the images without a name that this worker's cells left."""
    found = client.api.images(filters={"dangling": True, "label": "rlimages.cell"})
    return {image["Id"] for image in found if image["Labels"]["rlimages.cell"].startswith(f"{TOOLKIT}-")}


def test_the_second_run_begins_with_what_took_longest_in_the_first(write, build, tmp_path) -> None:
    versions = {"1": "sleep 0.1", "2": "sleep 2", "3": "sleep 0.1"}
    begun: list[str] = []

    def hear(event) -> None:
        if event.outcome is None and event.cell not in begun:
            begun.append(event.cell)

    cells = [write(version, work) for version, work in versions.items()]
    assert build(*cells).outcome is Outcome.PASSED
    past = read_history(StateFolder(tmp_path / STATE))
    assert past.estimate_build(cells[1]) > 2
    cells = [write(version, work) for version, work in versions.items()]
    assert build(*cells, on_event=hear).outcome is Outcome.PASSED
    assert begun == sorted((cell.id for cell in cells), key=lambda name: -past.records[name].builds[0].seconds)


def test_a_build_that_came_from_the_builders_cache_is_not_remembered(write, build, tmp_path) -> None:
    cell = write("1")
    for _ in range(2):
        build(cell)
    assert len(read_history(StateFolder(tmp_path / STATE)).records[cell.id].builds) == 1


def test_an_image_that_something_stood_on_when_it_lost_its_name_is_removed_by_the_next_run(
    write, build, client
) -> None:
    first = build(write("1")).cells[0].image.id
    container = client.containers.create(first, ["true"])
    try:
        build(write("1"))
        assert first in nameless(client)
    finally:
        container.remove(force=True)
    report = build(write("1"))
    assert first not in nameless(client)
    assert any(first[7:19] in note for note in report.notes)


def test_of_two_builds_of_one_name_at_once_none_leaves_an_image_behind(build, client, tmp_path, one_cell) -> None:
    """Both began when neither was there, so that neither knows of the other's image."""
    before = nameless(client)

    def go(name: str, seconds: int) -> str:
        label = f"LABEL rlimages.cell={one_cell.make_cell('1').id}\n"
        recipe = f"{FROM}RUN sleep {seconds}; echo {time.time_ns()}\n{label}"
        cell = one_cell.write_project(tmp_path / name, recipe, {}, "1")
        return str(build(cell, root=tmp_path / name).cells[0].image.id)

    with ThreadPoolExecutor() as pool:
        assert len(set(pool.map(go, ("a", "b"), (1, 2)))) == 2
    assert nameless(client) <= before


def test_an_image_of_another_checkout_is_never_removed(write, build, client, tmp_path) -> None:
    theirs = build(write("1")).cells[0].image.id
    (StateFolder(tmp_path / STATE).history).unlink()
    container = client.containers.create(theirs, ["true"])
    build(write("1"))
    container.remove(force=True)
    build(write("1"))
    try:
        assert theirs in nameless(client)
    finally:
        client.api.remove_image(theirs)


def test_what_passed_before_says_what_the_next_takes(write, build, tmp_path) -> None:
    cell = write("1")
    record_measurements(StateFolder(tmp_path / STATE), cell, build=Measurement(seconds=100, date="2026-01-01", size=5))
    build(cell)
    past = read_history(StateFolder(tmp_path / STATE))
    assert 50 < past.estimate_build(cell) < 100


def test_the_engines_data_folder_is_known_where_it_is_here(engine) -> None:
    folder = engine.data_folder()
    assert folder is None or folder.is_dir()
