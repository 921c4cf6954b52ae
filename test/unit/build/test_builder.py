from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest

from rlimages.build.builder import ATTEMPTS, build_cell
from rlimages.engine.protocol import BuildOutcome
from rlimages.plan.results import FailureKind, Outcome
from rlimages.system.process import ProgramResult, Stop

FLAKE = BuildOutcome(
    process=ProgramResult(code=1, seconds=1), error="curl: (6) Could not resolve host: files.example.org"
)
BROKEN = BuildOutcome(process=ProgramResult(code=1, seconds=1), error="main.cc:3:1: error: expected unqualified-id")


@pytest.fixture
def run(step, engine, tmp_path):
    def run(stop=None, first_wait=0.0):
        return build_cell(step, engine, tmp_path / "logs", root=tmp_path, stop=stop or Stop(), first_wait=first_wait)

    return run


def test_a_build_that_passes_has_an_image_and_a_log(run, step) -> None:
    result = run()
    assert result.outcome is Outcome.PASSED
    assert result.image.id == f"sha256:{step.cell.id}"
    assert Path(result.log).read_text() == "it was built\n"
    assert not result.reason


def test_a_broken_build_is_a_result_with_its_kind_and_evidence(run, step, engine) -> None:
    engine.builds[step.cell.id] = [BROKEN]
    result = run()
    assert result.outcome is Outcome.FAILED
    assert result.failure.kind is FailureKind.COMPILE
    assert result.failure.evidence == ("main.cc:3:1: error: expected unqualified-id",)
    assert result.image is None


def test_a_permanent_failure_is_tried_once(run, step, engine) -> None:
    engine.builds[step.cell.id] = [BROKEN, BROKEN]
    assert run().failure.attempts == 1
    assert engine.calls == [("build", step.cell.id)]


def test_a_transient_failure_is_tried_again_and_the_result_names_the_attempt(run, step, engine) -> None:
    engine.builds[step.cell.id] = [FLAKE]
    result = run()
    assert result.outcome is Outcome.PASSED
    assert "attempt 2" in result.reason


def test_a_transient_failure_is_tried_three_times(run, step, engine) -> None:
    engine.builds[step.cell.id] = [FLAKE] * 9
    result = run()
    assert result.failure.kind is FailureKind.NETWORK
    assert result.failure.attempts == len(engine.calls) == ATTEMPTS
    assert f"{ATTEMPTS} attempts" in result.reason


def test_the_wait_between_attempts_can_be_interrupted(run, step, engine) -> None:
    engine.builds[step.cell.id] = [FLAKE] * 9
    stop = Stop()
    Timer(0.1, stop.set).start()
    result = run(stop=stop, first_wait=60.0)
    assert result.seconds < 5
    assert result.outcome is Outcome.FAILED


def test_a_build_that_runs_into_its_time_limit_names_the_limit(run, step, engine) -> None:
    engine.builds[step.cell.id] = [BuildOutcome(process=ProgramResult(code=-15, seconds=60, timed_out=True), error="")]
    result = run()
    assert result.failure.kind is FailureKind.TIMEOUT
    assert result.reason == "took longer than 60 s"


def test_an_interrupted_build_is_not_tried_again(run, step, engine) -> None:
    engine.builds[step.cell.id] = [
        BuildOutcome(process=ProgramResult(code=-15, seconds=1, cancelled=True), error=FLAKE.error)
    ]
    result = run()
    assert result.failure.kind is FailureKind.INTERRUPTED
    assert result.reason == "interrupted"


def test_a_full_disk_is_reported_with_a_remedy(run, step, engine) -> None:
    engine.builds[step.cell.id] = [replace(BROKEN, error="tar: /opt/x: No space left on device")]
    result = run()
    assert result.failure.kind is FailureKind.DISK_FULL
    assert result.reason.startswith("disk full; free some space on the disk of the engine: `docker system df`")
