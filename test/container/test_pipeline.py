"""A run from build to publish with real cells: failures, signals, and leftovers of killed runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlimages.matrix.cell import Matrix
from rlimages.plan.results import FailureKind, Outcome
from rlimages.project.project import Project
from rlimages.registry.client import resolve_reference
from rlimages.release.publish import publish_images
from rlimages.release.target import open_target
from rlimages.run.report import report_exit_code
from rlimages.run.scheduler import run_plan
from rlimages.run.stages import StageContext
from rlimages.system.context import RunContext

FROM = "FROM debian:bookworm-slim\n"
CHECKS = {"good": "echo good; exit 0\n", "gpu": "echo no GPU here; exit 77\n"}
PROGRAM = Path(__file__).parent / "one_cell.py"


@pytest.fixture
def run(engine, stop, tmp_path, registry, one_cell):
    def run(*cells, **fields):
        folder = tmp_path / "runs" / f"{time.time_ns()}"
        folder.mkdir(parents=True)
        plan = one_cell.plan(*cells)
        stages = StageContext(plan=plan, roots=(tmp_path,), folder=folder, engine=engine, stop=stop, **fields)
        report = run_plan(stages)
        project = Project(root=tmp_path, matrix=Matrix(name="m", cells=cells, frameworks={}, tools={}))
        target = open_target(project, cells, to=registry, environ={})
        return publish_images(
            report, target, project=project, engine=engine, folder=tmp_path, reused={}, allow_older=False,
            context=RunContext(environ={}, stop=stop), on_event=lambda _event: None,
        )  # fmt: skip

    return run


@pytest.fixture
def start(tmp_path, run_name):
    """Return a function that starts a run in a separate process and waits until it prints a text."""
    started: list[subprocess.Popen] = []

    def start(text: str, name: str = run_name) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        for line in process.stdout:
            if text in line:
                return process
        raise AssertionError(f"it ended without printing '{text}'")

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def running_builds(root: Path) -> list[str]:
    """Return the ids of the buildx processes whose working directory is `root`."""
    process_ids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == root and b"buildx" in (process / "cmdline").read_bytes():
                process_ids.append(process.name)
        except OSError:
            continue
    return process_ids


def test_a_broken_cell_fails_and_the_others_are_published(run, tmp_path, one_cell) -> None:
    stamp = time.time_ns()
    good = one_cell.write_project(tmp_path, FROM, CHECKS, f"1.{stamp}")
    bad = one_cell.write_project(tmp_path, FROM + "RUN echo 'a.cc:1:2: error: no' >&2; exit 2\n", CHECKS, f"2.{stamp}")
    report = run(good, bad)
    good_report, bad_report = report.cells
    assert good_report.outcome is Outcome.PASSED
    assert [result.outcome for result in good_report.smoke] == [Outcome.PASSED, Outcome.NOT_APPLICABLE]
    assert all(resolve_reference(result.reference).digest == result.digest for result in good_report.publish)
    assert bad_report.build.failure.kind is FailureKind.COMPILE
    assert report_exit_code(report) == 1


def test_an_image_that_fails_a_check_is_not_pushed(run, tmp_path, registry, one_cell) -> None:
    cell = one_cell.write_project(tmp_path, FROM, {"bad": "echo reward is 21; exit 1\n"}, f"3.{time.time_ns()}")
    report = run(cell)
    assert report.cells[0].smoke[0].reason == "reward is 21"
    assert resolve_reference(f"{registry}/{cell.local_name}") is None


def test_a_second_run_repeats_no_build_check_or_push(run, tmp_path, one_cell) -> None:
    cell = one_cell.write_project(tmp_path, FROM, CHECKS, f"4.{time.time_ns()}")
    first, second = (run(cell, check_cache=tmp_path / "check_cache") for _ in range(2))
    assert second.outcome is Outcome.PASSED
    assert second.seconds < 5
    assert [result.digest for result in second.cells[0].publish] == [result.digest for result in first.cells[0].publish]
    assert {result.reason for result in second.cells[0].publish} == {"was there already"}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_check_removes_the_container_and_the_report_is_printed(
    start, tmp_path, containers, one_cell, signal_number
) -> None:
    one_cell.write_project(tmp_path, FROM, {"slow": "sleep 120\n"})
    process = start("smoke slow")
    assert wait_until(containers)
    started_at = time.monotonic()
    process.send_signal(signal_number)
    output = process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert time.monotonic() - started_at < 15
    assert "interrupted" in output
    assert not containers()


def test_a_signal_during_a_build_ends_the_build(start, tmp_path, one_cell) -> None:
    one_cell.write_project(tmp_path, FROM + f"RUN echo {time.time_ns()}; sleep 120\n", CHECKS)
    process = start("RUN echo")
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert not running_builds(tmp_path)


@pytest.mark.alone
def test_leftovers_of_a_killed_run_are_removed_by_the_next_one(start, tmp_path, containers, run, one_cell) -> None:
    one_cell.write_project(tmp_path, FROM, {"slow": "sleep 120\n"})
    process = start("smoke slow")
    assert wait_until(containers)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert containers()
    cell = one_cell.write_project(tmp_path, FROM, {"slow": "echo quick now\n"})
    report = run(cell)
    assert report.outcome is Outcome.PASSED
    assert any("left behind by run" in note for note in report.notes)
    assert not containers()


def test_the_build_of_a_killed_run_ends_by_itself(start, tmp_path, one_cell) -> None:
    slow_instruction = (
        f"RUN echo {time.time_ns()}; i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i; sleep 0.2; done\n"
    )
    one_cell.write_project(tmp_path, FROM + slow_instruction, CHECKS)
    process = start("RUN echo")
    assert running_builds(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not running_builds(tmp_path), seconds=15)
