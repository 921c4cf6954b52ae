import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlimages import pipeline
from rlimages.container import Checked
from rlimages.engine import Built
from rlimages.errors import ToolError
from rlimages.plan import Action, BuildPlan
from rlimages.results import Outcome
from rlimages.shell import Ended, Stop
from rlimages.stages import Stage

BROKEN = Built(ended=Ended(code=1, seconds=0), trouble="main.cc:1:1: error: no")


@pytest.fixture
def run(engine, tmp_path):
    (tmp_path / "templates/smoke").mkdir(parents=True)
    (tmp_path / "templates/smoke/check_x.py").write_text("")

    def run(*steps, jobs=2, **words):
        plan = BuildPlan(steps=steps, jobs=jobs)
        return pipeline.run(plan, root=tmp_path, folder=tmp_path / "20260101T000000-1", engine=engine, **words)

    return run


def outcomes(report) -> list[Outcome]:
    return [cell.outcome for cell in report.cells]


def test_a_cell_is_built_and_checked(run, step, engine) -> None:
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.PASSED
    assert [call[0] for call in engine.calls] == ["cleanup", "build", "check"]


def test_a_broken_build_is_not_smoked(run, step, engine) -> None:
    engine.builds[step.cell.id] = [BROKEN]
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.FAILED
    assert not cell.smoke
    assert not cell.publish


def test_what_did_not_pass_its_checks_has_failed(run, step, engine) -> None:
    engine.checks["check_x.py"] = Checked(ended=Ended(code=1, seconds=0), last_line="wrong")
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.FAILED


def test_a_broken_cell_never_stops_its_neighbours(run, make_step, engine) -> None:
    steps = [make_step(version) for version in ("1.0", "2.0", "3.0")]
    engine.builds[steps[1].cell.id] = [BROKEN]
    assert outcomes(run(*steps)) == [Outcome.PASSED, Outcome.FAILED, Outcome.PASSED]


def test_the_descendants_of_a_broken_cell_are_skipped_and_say_why(run, make_step, engine) -> None:
    parent = make_step("1.0")
    child = make_step("2.0", needs=(parent.cell.id,))
    grandchild = make_step("3.0", needs=(child.cell.id,))
    engine.builds[parent.cell.id] = [BROKEN]
    report = run(parent, child, grandchild)
    assert outcomes(report) == [Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert report.cells[1].build.reason == f"its parent {parent.cell.id} failed: compile"
    assert report.cells[2].build.reason.startswith(f"its parent {child.cell.id} was skipped: its parent")


def test_a_child_waits_for_its_parent(run, make_step, engine) -> None:
    parent = make_step("1.0")
    child = make_step("2.0", needs=(parent.cell.id,))
    engine.builds[parent.cell.id] = [lambda: time.sleep(0.05) or engine.passes(parent)]
    run(parent, child)
    assert engine.calls.index(("build", child.cell.id)) > engine.calls.index(
        ("check", f"sha256:{parent.cell.id}", "check_x.py")
    )


def test_no_more_cells_run_at_once_than_the_plan_says(run, make_step, engine) -> None:
    now, most, lock = [0], [0], threading.Lock()

    def busy(step):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return engine.passes(step)

    steps = [make_step(f"{number}.0") for number in range(8)]
    engine.builds = {step.cell.id: [lambda step=step: busy(step)] for step in steps}
    run(*steps, jobs=3)
    assert most[0] == 3


def test_a_step_that_the_plan_skips_is_reported_with_its_reason(run, step, engine) -> None:
    (cell,) = run(replace(step, action=Action.SKIP, reason="its base cannot be pulled")).cells
    assert (cell.outcome, cell.build.reason) == (Outcome.SKIPPED, "its base cannot be pulled")
    assert engine.calls == [("cleanup",)]


def test_build_alone_neither_checks_nor_publishes(run, step, engine) -> None:
    run(step, stages=(Stage.BUILD,))
    assert engine.calls == [("cleanup",), ("build", step.cell.id)]


def test_smoke_alone_checks_what_the_local_store_has(run, step, engine) -> None:
    engine.passes(step)
    (cell,) = run(step, stages=(Stage.SMOKE,)).cells
    assert cell.outcome is Outcome.PASSED
    assert cell.build is None


def test_smoke_of_an_image_that_is_not_there_is_not_green(run, step) -> None:
    (cell,) = run(step, stages=(Stage.SMOKE,)).cells
    assert cell.outcome is Outcome.SKIPPED
    assert "build it first" in cell.build.reason


def test_publish_alone_still_checks_first(run, step, engine) -> None:
    engine.passes(step)
    engine.checks["check_x.py"] = Checked(ended=Ended(code=1, seconds=0), last_line="wrong")
    assert outcomes(run(step, stages=(Stage.PUBLISH,))) == [Outcome.FAILED]


def test_an_engine_that_goes_away_is_a_failure_of_the_cells_it_left(run, make_step, engine) -> None:
    def gone() -> Built:
        raise ToolError("no Docker engine answers")

    first, second = make_step("1.0"), make_step("2.0")
    engine.builds[second.cell.id] = [gone]
    report = run(first, second)
    assert outcomes(report) == [Outcome.PASSED, Outcome.FAILED]
    assert report.cells[1].build.reason == "no Docker engine answers"


def test_a_defect_of_ours_is_not_hidden(run, make_step, engine) -> None:
    def defect() -> Built:
        raise ZeroDivisionError

    step = make_step("1.0")
    engine.builds[step.cell.id] = [defect]
    with pytest.raises(ZeroDivisionError):
        run(step, make_step("2.0"))


def test_a_stopped_run_still_reports_every_cell(run, make_step, engine) -> None:
    stop = Stop()

    def interrupted() -> Built:
        stop.set()
        return Built(ended=Ended(code=-15, seconds=0, cancelled=True))

    steps = [make_step(f"{number}.0") for number in range(4)]
    engine.builds[steps[1].cell.id] = [interrupted]
    report = run(*steps, jobs=1, stop=stop)
    assert outcomes(report) == [Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert report.cells[3].build.reason == "interrupted before it began"


def test_a_cell_that_was_built_when_the_run_stopped_has_not_passed(run, step, engine) -> None:
    stop = Stop()
    engine.builds[step.cell.id] = [lambda: stop.set() or engine.passes(step)]
    (cell,) = run(step, stop=stop).cells
    assert cell.build.outcome is Outcome.PASSED
    assert cell.outcome is Outcome.SKIPPED


def test_what_an_earlier_run_left_behind_is_noted(run, step, engine) -> None:
    engine.orphans = ("removed container x",)
    assert run(step, notes=("a note",)).notes == ("a note", "removed container x")


def test_events_come_one_at_a_time_and_count_the_cells(run, make_step) -> None:
    inside, overlaps, events = threading.Lock(), [], []

    def hear(event):
        overlaps.append(not inside.acquire(blocking=False))
        events.append(event)
        time.sleep(0.001)
        inside.release()

    run(*[make_step(f"{number}.0") for number in range(6)], jobs=4, on_event=hear)
    assert not any(overlaps)
    assert {event.total for event in events} == {6}
    assert [event.done for event in events] == sorted(event.done for event in events)
    ends = [event for event in events if event.outcome is not None]
    assert len(ends) == 6 * 2


def test_the_report_is_in_the_order_of_the_plan_and_named_after_its_folder(run, make_step) -> None:
    steps = [make_step(version) for version in ("3.0", "1.0", "2.0")]
    report = run(*steps, jobs=3, command="rlimages run")
    assert [cell.cell.version for cell in report.cells] == ["3.0", "1.0", "2.0"]
    assert report.run == "20260101T000000-1"
    assert report.command == "rlimages run"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.data())
def test_whatever_breaks_every_cell_is_reported_and_only_descendants_are_skipped(run, make_step, engine, shape) -> None:
    size = shape.draw(st.integers(1, 7))
    parents = [shape.draw(st.integers(-1, number - 1)) for number in range(size)]
    broken = shape.draw(st.sets(st.integers(0, size - 1)))
    names = [make_step(f"{number}.0").cell.id for number in range(size)]
    steps = [
        make_step(f"{number}.0", needs=(names[parent],) if parent >= 0 else ()) for number, parent in enumerate(parents)
    ]
    engine.builds = {names[number]: [BROKEN] for number in broken}
    report = run(*steps, jobs=shape.draw(st.integers(1, 4)), stages=(Stage.BUILD,))

    expected: list[Outcome] = []
    for number, parent in enumerate(parents):
        if parent >= 0 and expected[parent] is not Outcome.PASSED:
            expected.append(Outcome.SKIPPED)
        else:
            expected.append(Outcome.FAILED if number in broken else Outcome.PASSED)
    assert outcomes(report) == expected
