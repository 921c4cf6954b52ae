import json
from dataclasses import replace

import pytest

from rlimages.checks.smoke import run_checks
from rlimages.checks.suite import find_checks
from rlimages.engine.container import ContainerRun
from rlimages.plan.results import Outcome
from rlimages.system.process import ProgramResult, Stop


def exited(code: int = 0, line: str = "because", **options) -> ContainerRun:
    return ContainerRun(process=ProgramResult(code=code, seconds=0.5, **options), last_line=line)


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
    def run(stop=None, **options):
        checks = find_checks((root,), step.cell, {})
        return run_checks(step.cell, image, checks, engine, root / "logs", stop=stop or Stop(), **options)

    return run


def test_the_exit_status_is_the_outcome_and_the_last_line_is_the_reason(run, engine) -> None:
    engine.checks = {
        "check_labels.py": exited(77, "no GPU here"),
        "check_trains.py": exited(1, "reward is 21, not 150"),
    }
    labels, trains = run()
    assert (labels.check, labels.outcome, labels.reason) == ("labels", Outcome.NOT_APPLICABLE, "no GPU here")
    assert (trains.check, trains.outcome, trains.reason) == ("trains", Outcome.FAILED, "reward is 21, not 150")


def test_a_failed_check_does_not_stop_the_others(run, engine) -> None:
    engine.checks = {"check_labels.py": exited(1)}
    assert [result.outcome for result in run()] == [Outcome.FAILED, Outcome.PASSED]


def test_any_other_exit_status_is_a_failure(run, engine) -> None:
    engine.checks = {"check_labels.py": exited(78), "check_trains.py": exited(-9, "")}
    assert [result.outcome for result in run()] == [Outcome.FAILED, Outcome.FAILED]
    assert run()[1].reason == "exited with -9 and printed nothing"


def test_a_check_that_takes_too_long_fails_with_its_last_line(run, engine) -> None:
    engine.checks = {"check_trains.py": exited(137, "iteration 3", timed_out=True)}
    result = run(timeout=600)[1]
    assert result.outcome is Outcome.FAILED
    assert result.reason == "took longer than 600 s; its last line: iteration 3"


def test_a_check_that_cannot_start_fails_with_the_error_of_the_engine(run, engine) -> None:
    engine.checks = {
        "check_labels.py": ContainerRun(process=ProgramResult(code=125, seconds=0), error="no such interpreter")
    }
    assert run()[0].reason == "no such interpreter"


def test_an_image_without_checks_has_not_passed(step, image, engine, tmp_path) -> None:
    (result,) = run_checks(step.cell, image, (), engine, tmp_path, stop=Stop())
    assert result.outcome is Outcome.FAILED


def test_checks_that_were_not_started_before_an_interruption_are_skipped(run, engine) -> None:
    stop = Stop()
    stop.set()
    assert [result.outcome for result in run(stop=stop)] == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert not engine.calls


def test_a_check_gets_the_promises_of_the_matrix_and_the_configuration_of_the_image(run, root, step) -> None:
    run()
    values = json.loads(next((root / "logs/checks").glob("*/cell.json")).read_text())
    assert values["id"] == step.cell.id
    assert values["framework"] == {"name": "tf", "version": "2.13.1"}
    assert values["labels"] == {"rlimages.cell": step.cell.id}
    assert values["env"] == {"PATH": "/usr/bin", "ODD": "a=b"}
    assert values["entrypoint"] == ["/entry"]


def test_a_check_that_passed_for_this_image_is_not_run_again(run, engine, tmp_path) -> None:
    run(cache=tmp_path / "cache")
    calls = len(engine.calls)
    again = run(cache=tmp_path / "cache")
    assert len(engine.calls) == calls
    assert [result.outcome for result in again] == [Outcome.PASSED, Outcome.PASSED]
    assert again[0].reason.startswith("it is so (cached: the same image passed on ")


@pytest.mark.parametrize("code", [1, 77])
def test_only_a_passed_check_is_cached(run, engine, tmp_path, code) -> None:
    engine.checks = {"check_labels.py": exited(code)}
    run(cache=tmp_path / "cache")
    engine.calls.clear()
    run(cache=tmp_path / "cache")
    assert [call[2] for call in engine.calls] == ["check_labels.py"]


def test_a_changed_program_is_run_again(run, root, engine, tmp_path) -> None:
    run(cache=tmp_path / "cache")
    engine.calls.clear()
    (root / "ray/smoke/check_trains.py").write_text("# stricter\n")
    run(cache=tmp_path / "cache")
    assert [call[2] for call in engine.calls] == ["check_trains.py"]


def test_another_image_or_promise_is_not_in_the_cache(step, image, engine, root, tmp_path) -> None:
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
            cache=tmp_path / "cache",
        )
        assert len(engine.calls) == 2
