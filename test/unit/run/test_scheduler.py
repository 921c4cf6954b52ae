import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlimages.build.resources import ResourceBudget
from rlimages.engine.container import ContainerRun
from rlimages.engine.protocol import BuildOutcome
from rlimages.errors import ToolError
from rlimages.plan.history import Measurement, read_history, record_measurements
from rlimages.plan.results import CellReport, FailureKind, Outcome
from rlimages.plan.step import Action, BuildPlan, Stage
from rlimages.project.state import StateFolder
from rlimages.run.scheduler import run_plan
from rlimages.run.stages import StageContext, skipped_build
from rlimages.system.process import ProgramResult, Stop

BROKEN = BuildOutcome(process=ProgramResult(code=1, seconds=0), error="main.cc:1:1: error: no")


@pytest.fixture
def run(engine, tmp_path):
    """Run the steps in a project with one check. Options of the context and of `run_plan` are given by name."""
    (tmp_path / "templates/smoke").mkdir(parents=True)
    (tmp_path / "templates/smoke/check_x.py").write_text("")

    def run(*steps, jobs=2, on_passed=None, on_event=lambda _event: None, notes=(), command="", **fields):
        folder = tmp_path / "20260101T000000-1"
        plan = BuildPlan(steps=steps, jobs=jobs)
        context = StageContext(plan=plan, roots=(tmp_path,), folder=folder, engine=engine, **fields)
        return run_plan(context, command=command, notes=notes, on_passed=on_passed, on_event=on_event)

    return run


def outcomes(report) -> list[Outcome]:
    return [cell.outcome for cell in report.cells]


def test_a_cell_is_built_and_checked(run, step, engine) -> None:
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.PASSED
    assert [call[0] for call in engine.calls] == ["remove_orphans", "build", "run_in_image"]


def test_a_broken_build_is_not_smoked(run, step, engine) -> None:
    engine.builds[step.cell.id] = [BROKEN]
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.FAILED
    assert not cell.smoke
    assert not cell.publish


def test_a_cell_with_a_failed_check_has_failed(run, step, engine) -> None:
    engine.checks["check_x.py"] = ContainerRun(process=ProgramResult(code=1, seconds=0), last_line="wrong")
    (cell,) = run(step).cells
    assert cell.outcome is Outcome.FAILED


def test_a_broken_cell_does_not_stop_other_cells(run, make_step, engine) -> None:
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
        ("run_in_image", f"sha256:{parent.cell.id}", "check_x.py")
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
    assert engine.calls == [("remove_orphans",)]


def test_build_alone_neither_checks_nor_publishes(run, step, engine) -> None:
    run(step, stages=(Stage.BUILD,))
    assert engine.calls == [("remove_orphans",), ("build", step.cell.id)]


def test_smoke_alone_checks_the_local_image(run, step, engine) -> None:
    engine.passes(step)
    (cell,) = run(step, stages=(Stage.SMOKE,)).cells
    assert cell.outcome is Outcome.PASSED
    assert cell.build is None


def test_smoke_without_a_local_image_is_skipped_and_not_passed(run, step) -> None:
    (cell,) = run(step, stages=(Stage.SMOKE,)).cells
    assert cell.outcome is Outcome.SKIPPED
    assert "build it first" in cell.build.reason


def test_publish_alone_still_checks_first(run, step, engine) -> None:
    engine.passes(step)
    engine.checks["check_x.py"] = ContainerRun(process=ProgramResult(code=1, seconds=0), last_line="wrong")
    assert outcomes(run(step, stages=(Stage.PUBLISH,))) == [Outcome.FAILED]


def test_an_engine_that_stops_answering_fails_the_cells_that_needed_it(run, make_step, engine) -> None:
    def gone() -> BuildOutcome:
        raise ToolError("no Docker engine answers")

    first, second = make_step("1.0"), make_step("2.0")
    engine.builds[second.cell.id] = [gone]
    report = run(first, second)
    assert outcomes(report) == [Outcome.PASSED, Outcome.FAILED]
    assert report.cells[1].build.reason == "no Docker engine answers"


def test_an_error_in_this_program_is_raised(run, make_step, engine) -> None:
    def defect() -> BuildOutcome:
        raise ZeroDivisionError

    step = make_step("1.0")
    engine.builds[step.cell.id] = [defect]
    with pytest.raises(ZeroDivisionError):
        run(step, make_step("2.0"))


def test_a_stopped_run_still_reports_every_cell(run, make_step, engine) -> None:
    stop = Stop()

    def interrupted() -> BuildOutcome:
        stop.set()
        return BuildOutcome(process=ProgramResult(code=-15, seconds=0, cancelled=True))

    steps = [make_step(f"{number}.0") for number in range(4)]
    engine.builds[steps[1].cell.id] = [interrupted]
    report = run(*steps, jobs=1, stop=stop)
    assert outcomes(report) == [Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED]
    assert report.cells[3].build.reason == "interrupted before it started"


def test_a_cell_that_was_built_when_the_run_stopped_has_not_passed(run, step, engine) -> None:
    stop = Stop()
    engine.builds[step.cell.id] = [lambda: stop.set() or engine.passes(step)]
    (cell,) = run(step, stop=stop).cells
    assert cell.build.outcome is Outcome.PASSED
    assert cell.outcome is Outcome.SKIPPED


def test_removed_orphans_of_earlier_runs_are_noted(run, step, engine) -> None:
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
def test_every_cell_is_reported_and_only_descendants_of_broken_cells_are_skipped(run, make_step, engine, shape) -> None:
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


def real_build(engine, step, seconds: float = 1.0):
    """Return a build that executed its steps and was not cached."""
    return lambda: replace(engine.passes(step), process=ProgramResult(code=0, seconds=seconds), ran_steps=True)


def test_the_cell_with_the_longest_build_starts_first(run, make_step, engine, tmp_path) -> None:
    steps = [make_step(f"{number}.0") for number in range(4)]
    for step, seconds in zip(steps, (5, 60, 7, 600), strict=True):
        record_measurements(
            StateFolder(tmp_path / "state"), step.cell, build=Measurement(seconds=seconds, date="2026-01-01")
        )
    run(*steps, jobs=1, stages=(Stage.BUILD,), state=StateFolder(tmp_path / "state"))
    started = [call[1] for call in engine.calls if call[0] == "build"]
    assert started == [steps[number].cell.id for number in (3, 1, 2, 0)]


def test_the_parent_of_a_long_build_starts_first(run, make_step, engine, tmp_path) -> None:
    alone, parent = make_step("1.0"), make_step("2.0")
    child = make_step("3.0", needs=(parent.cell.id,))
    for step, seconds in ((alone, 50), (parent, 1), (child, 90)):
        record_measurements(
            StateFolder(tmp_path / "state"), step.cell, build=Measurement(seconds=seconds, date="2026-01-01")
        )
    run(alone, parent, child, jobs=1, stages=(Stage.BUILD,), state=StateFolder(tmp_path / "state"))
    started = [call[1] for call in engine.calls if call[0] == "build"]
    assert started == [parent.cell.id, child.cell.id, alone.cell.id]


def test_builds_and_checks_are_recorded_in_the_history(run, step, engine, tmp_path) -> None:
    engine.builds[step.cell.id] = [real_build(engine, step, 41.5)]
    run(step, state=StateFolder(tmp_path))
    record = read_history(StateFolder(tmp_path)).records[step.cell.id]
    assert [(build.seconds, build.size) for build in record.builds] == [(41.5, 227_000_000)]
    assert [check.seconds for check in record.checks] == [0.5]
    assert record.images == (f"sha256:{step.cell.id}",)


def test_cached_builds_and_checks_are_not_recorded(run, step, tmp_path) -> None:
    for _ in range(2):
        run(step, state=StateFolder(tmp_path), check_cache=tmp_path / "proofs")
    record = read_history(StateFolder(tmp_path)).records[step.cell.id]
    assert not record.builds
    assert len(record.checks) == 1


def test_a_broken_build_is_not_recorded(run, step, engine, tmp_path) -> None:
    engine.builds[step.cell.id] = [BROKEN]
    run(step, state=StateFolder(tmp_path))
    assert not read_history(StateFolder(tmp_path)).records


def test_failed_checks_are_not_recorded(run, step, engine, tmp_path) -> None:
    engine.checks["check_x.py"] = ContainerRun(process=ProgramResult(code=1, seconds=0.1), last_line="wrong")
    run(step, state=StateFolder(tmp_path))
    assert not read_history(StateFolder(tmp_path)).records[step.cell.id].checks


def test_a_history_that_cannot_be_read_is_noted(run, step, tmp_path) -> None:
    (StateFolder(tmp_path).history).write_text("{")
    report = run(step, state=StateFolder(tmp_path))
    assert report.outcome is Outcome.PASSED
    assert any("a new one is started" in note for note in report.notes)


def test_a_history_that_cannot_be_written_fails_no_cell(run, step, tmp_path) -> None:
    (tmp_path / "state").write_text("a file, not a folder")
    assert run(step, state=StateFolder(tmp_path / "state")).outcome is Outcome.PASSED


def test_untagged_images_of_earlier_builds_are_removed_at_the_start_and_after_each_build(
    run, step, engine, tmp_path
) -> None:
    record_measurements(StateFolder(tmp_path), step.cell, image="sha256:old")
    run(step, state=StateFolder(tmp_path))
    assert engine.dangling == {"sha256:old", f"sha256:{step.cell.id}"}


def test_an_image_that_the_run_gives_a_name_is_not_removed_as_untagged(run, make_step, engine, tmp_path) -> None:
    built, kept = make_step("1.0"), make_step("2.0", action=Action.REUSE, image_id="sha256:kept")
    engine.store["sha256:kept"] = engine.passes(kept) and engine.store[kept.request.tag]
    record_measurements(StateFolder(tmp_path), kept.cell, image="sha256:kept")
    run(built, kept, state=StateFolder(tmp_path))
    assert engine.dangling == {f"sha256:{built.cell.id}"}


def test_a_build_without_enough_disk_fails_and_its_child_is_skipped(run, make_step) -> None:
    parent = make_step("1.0")
    child = make_step("2.0", needs=(parent.cell.id,))
    report = run(parent, child, budget=ResourceBudget(free_disk=lambda: 10**9))
    assert outcomes(report) == [Outcome.FAILED, Outcome.SKIPPED]
    assert report.cells[0].build.failure.kind is FailureKind.DISK_FULL
    assert report.cells[0].build.reason.startswith("disk full: 9 GB are needed")


def test_cleanups_that_freed_disk_are_noted(run, step) -> None:
    free = [10**9]

    def clean(wanted: int) -> list[str]:
        free[0] += wanted
        return ["removed 8.0 GB of old build cache"]

    report = run(step, budget=ResourceBudget(free_disk=lambda: free[0], cleanups=(clean,)))
    assert report.outcome is Outcome.PASSED
    assert report.notes == ("removed 8.0 GB of old build cache",)


def test_a_passed_cell_is_handed_over_while_others_are_built(run, make_step, engine) -> None:
    quick, slow, broken = make_step("1.0"), make_step("2.0"), make_step("3.0")
    handed_over, in_time = threading.Event(), []
    engine.builds[slow.cell.id] = [lambda: in_time.append(handed_over.wait(5)) or engine.passes(slow)]
    engine.builds[broken.cell.id] = [BROKEN]
    handed = []
    run(quick, slow, broken, jobs=2, on_passed=lambda cell: handed.append(cell.cell.id) or handed_over.set())
    assert in_time == [True]
    assert sorted(handed) == sorted([quick.cell.id, slow.cell.id])


def test_a_cell_reused_from_the_registry_is_not_handed_over(run, make_step, engine) -> None:
    built, reused = make_step("1.0"), make_step("2.0")
    known = CellReport(
        cell=reused.cell, build=replace(skipped_build(reused.cell, "it is in the registry"), outcome=Outcome.PASSED)
    )
    handed = []
    run(built, reused, reused={reused.cell.id: known}, on_passed=lambda cell: handed.append(cell.cell.id))
    assert handed == [built.cell.id]


def test_an_error_in_the_handover_of_passed_cells_is_raised(run, step) -> None:
    with pytest.raises(ZeroDivisionError):
        run(step, on_passed=lambda _cell: 1 // 0)
