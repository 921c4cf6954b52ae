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
    """A run in a process of its own, once it has said `line`."""
    started: list[subprocess.Popen] = []

    def start(line: str, name: str = run_name) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        for said in process.stdout:
            if line in said:
                return process
        raise AssertionError(f"it ended without saying '{line}'")

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def until(true, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def builders(root: Path) -> list[str]:
    """The builds that run now with this root as their directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == root and b"buildx" in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_one_cell_broken_on_purpose_fails_alone_and_the_others_are_published(run, tmp_path, one_cell) -> None:
    stamp = time.time_ns()
    good = one_cell.write_project(tmp_path, FROM, CHECKS, f"1.{stamp}")
    bad = one_cell.write_project(tmp_path, FROM + "RUN echo 'a.cc:1:2: error: no' >&2; exit 2\n", CHECKS, f"2.{stamp}")
    told = run(good, bad)
    passed, failed = told.cells
    assert passed.outcome is Outcome.PASSED
    assert [result.outcome for result in passed.smoke] == [Outcome.PASSED, Outcome.NOT_APPLICABLE]
    assert all(resolve_reference(result.reference).digest == result.digest for result in passed.publish)
    assert failed.build.failure.kind is FailureKind.COMPILE
    assert report_exit_code(told) == 1


def test_what_fails_a_check_never_reaches_the_registry(run, tmp_path, registry, one_cell) -> None:
    cell = one_cell.write_project(tmp_path, FROM, {"bad": "echo reward is 21; exit 1\n"}, f"3.{time.time_ns()}")
    told = run(cell)
    assert told.cells[0].smoke[0].reason == "reward is 21"
    assert resolve_reference(f"{registry}/{cell.local_name}") is None


def test_a_second_run_does_nothing_twice(run, tmp_path, one_cell) -> None:
    cell = one_cell.write_project(tmp_path, FROM, CHECKS, f"4.{time.time_ns()}")
    first, second = (run(cell, check_cache=tmp_path / "proofs") for _ in range(2))
    assert second.outcome is Outcome.PASSED
    assert second.seconds < 5
    assert [result.digest for result in second.cells[0].publish] == [result.digest for result in first.cells[0].publish]
    assert {result.reason for result in second.cells[0].publish} == {"was there already"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_check_leaves_no_container_and_a_report(
    start, tmp_path, containers, one_cell, number
) -> None:
    one_cell.write_project(tmp_path, FROM, {"slow": "sleep 120\n"})
    process = start("smoke slow")
    assert until(containers)
    began = time.monotonic()
    process.send_signal(number)
    said = process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert time.monotonic() - began < 15
    assert "interrupted" in said
    assert not containers()


def test_a_signal_during_a_build_ends_the_build(start, tmp_path, one_cell) -> None:
    one_cell.write_project(tmp_path, FROM + f"RUN echo {time.time_ns()}; sleep 120\n", CHECKS)
    process = start("RUN echo")
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.stdout.read()
    assert process.wait(timeout=15) == 130
    assert not builders(tmp_path)


@pytest.mark.alone
def test_what_a_killed_run_left_behind_is_removed_by_the_next(start, tmp_path, containers, run, one_cell) -> None:
    one_cell.write_project(tmp_path, FROM, {"slow": "sleep 120\n"})
    process = start("smoke slow")
    assert until(containers)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert containers()
    cell = one_cell.write_project(tmp_path, FROM, {"slow": "echo quick now\n"})
    told = run(cell)
    assert told.outcome is Outcome.PASSED
    assert any("left behind by run" in note for note in told.notes)
    assert not containers()


def test_the_build_of_a_killed_run_ends_by_itself(start, tmp_path, one_cell) -> None:
    noisy = f"RUN echo {time.time_ns()}; i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i; sleep 0.2; done\n"
    one_cell.write_project(tmp_path, FROM + noisy, CHECKS)
    process = start("RUN echo")
    assert builders(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert until(lambda: not builders(tmp_path), seconds=15)
