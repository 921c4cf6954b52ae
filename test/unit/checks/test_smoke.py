import json
from dataclasses import replace

import pytest

from rlimages.checks.smoke import find_checks, run_checks
from rlimages.engine.container import ContainerRun
from rlimages.plan.results import Outcome
from rlimages.system.process import ProgramResult, Stop


def ended(code: int = 0, line: str = "because", **facts) -> ContainerRun:
    return ContainerRun(process=ProgramResult(code=code, seconds=0.5, **facts), last_line=line)


@pytest.fixture
def root(tmp_path):
    for path in ("templates/smoke/check_labels.py", "ray/smoke/check_trains.py", "vw/smoke/check_learns.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"# {path}\n")
    return tmp_path


@pytest.fixture
def image(engine, step):
    engine.passes(step)
    return engine.store[step.request.tag]


@pytest.fixture
def run(root, step, engine, image):
    def run(stop=None, **words):
        checks = find_checks((root,), step.cell, {})
        return run_checks(step.cell, image, checks, engine, root / "logs", stop=stop or Stop(), **words)

    return run


def names(checks) -> list[str]:
    return [check.program.name for check in checks]


def test_a_cell_is_checked_by_the_common_programs_and_its_toolkits(root, cell) -> None:
    assert names(find_checks((root,), cell, {})) == ["check_labels.py", "check_trains.py"]


def test_a_cell_that_extends_runs_its_parents_checks_too(root, cell) -> None:
    child = replace(cell, toolkit="vw", extends=cell.id)
    assert names(find_checks((root,), child, {cell.id: cell})) == [
        "check_labels.py",
        "check_trains.py",
        "check_learns.py",
    ]


def test_a_parents_checks_are_told_what_the_parent_promises(root, cell) -> None:
    child = replace(cell, toolkit="vw", version="1.0", extends=cell.id)
    told = {check.name: check.cell.version for check in find_checks((root,), child, {cell.id: cell})}
    assert told == {"labels": "1.0", "trains": cell.version, "learns": "1.0"}


def test_the_checks_of_a_parents_project_are_found_too(root, cell, tmp_path) -> None:
    mine = tmp_path / "mine"
    (mine / "maze/smoke").mkdir(parents=True)
    (mine / "maze/smoke/check_maze.py").write_text("# mine\n")
    child = replace(cell, toolkit="maze", extends=cell.id)
    found = find_checks((mine, root), child, {cell.id: cell})
    assert names(found) == ["check_labels.py", "check_trains.py", "check_maze.py"]


def test_a_toolkits_check_replaces_the_common_one_of_that_name(root, cell) -> None:
    (root / "ray/smoke/check_labels.py").write_text("# ray's\n")
    found = find_checks((root,), cell, {})
    assert names(found) == ["check_labels.py", "check_trains.py"]
    assert found[0].program.parent.parent.name == "ray"


def test_other_files_are_no_checks(root, cell) -> None:
    (root / "ray/smoke/notes.py").write_text("")
    assert "notes.py" not in names(find_checks((root,), cell, {}))


def test_the_exit_status_decides_and_the_last_line_says_why(run, engine) -> None:
    engine.checks = {"check_labels.py": ended(77, "no GPU here"), "check_trains.py": ended(1, "reward is 21, not 150")}
    labels, trains = run()
    assert (labels.check, labels.outcome, labels.reason) == ("labels", Outcome.NOT_APPLICABLE, "no GPU here")
    assert (trains.check, trains.outcome, trains.reason) == ("trains", Outcome.FAILED, "reward is 21, not 150")


def test_a_failed_check_does_not_stop_the_others(run, engine) -> None:
    engine.checks = {"check_labels.py": ended(1)}
    assert [result.outcome for result in run()] == [Outcome.FAILED, Outcome.PASSED]


def test_any_other_exit_status_is_broken(run, engine) -> None:
    engine.checks = {"check_labels.py": ended(78), "check_trains.py": ended(-9, "")}
    assert [result.outcome for result in run()] == [Outcome.FAILED, Outcome.FAILED]
    assert run()[1].reason == "exited with -9 and said nothing"


def test_a_check_that_takes_too_long_says_what_it_last_said(run, engine) -> None:
    engine.checks = {"check_trains.py": ended(137, "iteration 3", timed_out=True)}
    result = run(timeout=600)[1]
    assert result.outcome is Outcome.FAILED
    assert result.reason == "took longer than 600 s; it last said: iteration 3"


def test_a_check_that_cannot_start_says_what_the_engine_said(run, engine) -> None:
    engine.checks = {
        "check_labels.py": ContainerRun(process=ProgramResult(code=125, seconds=0), error="no such interpreter")
    }
    assert run()[0].reason == "no such interpreter"


def test_an_image_without_checks_has_not_passed(step, image, engine, tmp_path) -> None:
    (result,) = run_checks(step.cell, image, (), engine, tmp_path, stop=Stop())
    assert result.outcome is Outcome.FAILED


def test_what_was_not_begun_when_the_run_stopped_is_skipped(run, engine) -> None:
    stop = Stop()
    stop.set()
    assert [result.outcome for result in run(stop=stop)] == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert not engine.calls


def test_a_check_is_told_what_the_matrix_promises_and_what_the_image_says(run, root, step) -> None:
    run()
    told = json.loads(next((root / "logs/checks").glob("*/cell.json")).read_text())
    assert told["id"] == step.cell.id
    assert told["framework"] == {"name": "tf", "version": "2.13.1"}
    assert told["labels"] == {"rlimages.cell": step.cell.id}
    assert told["env"] == {"PATH": "/usr/bin", "ODD": "a=b"}
    assert told["entrypoint"] == ["/entry"]


def test_a_check_that_passed_for_this_image_is_not_run_again(run, engine, tmp_path) -> None:
    run(proofs=tmp_path / "proofs")
    calls = len(engine.calls)
    again = run(proofs=tmp_path / "proofs")
    assert len(engine.calls) == calls
    assert [result.outcome for result in again] == [Outcome.PASSED, Outcome.PASSED]
    assert "this very image" in again[0].reason


@pytest.mark.parametrize("code", [1, 77])
def test_only_what_passed_is_remembered(run, engine, tmp_path, code) -> None:
    engine.checks = {"check_labels.py": ended(code)}
    run(proofs=tmp_path / "proofs")
    engine.calls.clear()
    run(proofs=tmp_path / "proofs")
    assert [call[2] for call in engine.calls] == ["check_labels.py"]


def test_a_changed_program_is_run_again(run, root, engine, tmp_path) -> None:
    run(proofs=tmp_path / "proofs")
    engine.calls.clear()
    (root / "ray/smoke/check_trains.py").write_text("# stricter\n")
    run(proofs=tmp_path / "proofs")
    assert [call[2] for call in engine.calls] == ["check_trains.py"]


def test_another_image_or_promise_is_another_proof(step, image, engine, root, tmp_path) -> None:
    other = replace(image, image=replace(image.image, id="sha256:other"))
    promised = replace(step.cell, inventory={"ray": "9"})
    for cell, local in ((step.cell, image), (step.cell, other), (promised, image)):
        engine.calls.clear()
        run_checks(
            cell,
            local,
            find_checks((root,), cell, {}),
            engine,
            tmp_path / "logs",
            stop=Stop(),
            proofs=tmp_path / "proofs",
        )
        assert len(engine.calls) == 2
