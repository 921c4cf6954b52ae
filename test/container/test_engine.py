import gc
import os
import time
from pathlib import Path
from threading import Timer

import pytest

from rlimages.build.builder import build_cell
from rlimages.engine.docker import DockerEngine
from rlimages.errors import ToolError
from rlimages.plan.results import FailureKind, Outcome
from rlimages.system.process import Stop, this_process

FROM = "FROM debian:bookworm-slim\n"


@pytest.fixture
def try_build(engine, stop, tmp_path, one_cell):
    """Build a Dockerfile; the result and its log."""

    def try_build(recipe: str, timeout: int = 60, **words):
        cell = one_cell.write_project(tmp_path, recipe, {})
        (step,) = one_cell.plan(cell, timeout=timeout).steps
        words = {"root": tmp_path, "stop": stop, "first_wait": 0.01, **words}
        result = build_cell(step, engine, tmp_path / "logs", **words)
        return result, Path(result.log).read_text()

    return try_build


@pytest.fixture
def check(engine, tmp_path):
    def check(program: str, *, image="debian:bookworm-slim", timeout=20.0, interpreter="sh"):
        folder = tmp_path / "checks"
        folder.mkdir(exist_ok=True)
        (folder / "check_x.py").write_text(program)
        return engine.run_in_image(image, (interpreter, "-u", "/checks/check_x.py"), folder, tmp_path / "log", timeout)

    return check


def test_an_engine_says_what_it_is(engine) -> None:
    assert engine.version().startswith("Docker ")


def test_what_was_built_is_in_the_local_store(try_build, engine) -> None:
    result, _ = try_build(FROM + 'LABEL a="b"\nENV X=1\nENTRYPOINT ["/bin/sh"]\n')
    assert result.outcome is Outcome.PASSED
    found = engine.inspect(result.image.id)
    assert found.image == result.image
    assert found.labels["a"] == "b"
    assert "X=1" in found.env
    assert found.entrypoint == ("/bin/sh",)


def test_an_image_that_lost_its_name_to_a_newer_one_is_removed(try_build, engine) -> None:
    old, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    new, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    assert engine.inspect(old.image.id) is None
    assert engine.inspect(new.image.id) is not None


def test_an_image_that_has_another_name_stays(try_build, engine, client, one_cell) -> None:
    old, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    client.images.get(old.image.id).tag(one_cell.REPOSITORY, "kept")
    try_build(FROM + f"LABEL a={time.time_ns()}\n")
    assert engine.inspect(old.image.id) is not None


def test_the_log_is_for_people_and_progress_names_the_steps(try_build) -> None:
    heard: list[str] = []
    _, log = try_build(FROM + f"RUN echo hello-{time.time_ns()}\n", on_progress=heard.append)
    assert "RUN echo hello-" in log
    assert any(line.endswith(" s") and "done in" in line for line in log.splitlines())
    assert any("RUN echo" in step for step in heard)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        (FailureKind.DEPENDENCY_CONFLICT, FROM + "RUN apt-get install -y no-such-package-at-all\n"),
        (FailureKind.DISK_FULL, FROM + "RUN --mount=type=tmpfs,size=1m,target=/x head -c 9000000 /dev/zero >/x/y\n"),
        (FailureKind.OUT_OF_MEMORY, FROM + "RUN sh -c 'kill -9 $$'; exit $?\n"),
        (FailureKind.COMPILE, FROM + "RUN echo 'main.cc:1:2: error: no' >&2; exit 2\n"),
        (FailureKind.NETWORK, "FROM 127.0.0.1:9/there-is:none\n"),
        (FailureKind.UNKNOWN, FROM + "RUN exit 9\n"),
    ],
)
def test_a_broken_build_is_classified(try_build, kind, recipe) -> None:
    result, log = try_build(recipe)
    assert result.outcome is Outcome.FAILED
    assert result.failure.kind is kind
    assert result.failure.evidence
    assert "ERROR" in log


def test_a_base_that_a_registry_does_not_have_is_the_registrys_answer(try_build, registry) -> None:
    result, _ = try_build(f"FROM {registry}/no-such-thing:1\n")
    assert result.failure.kind is FailureKind.REGISTRY
    assert result.failure.attempts == 1


def test_what_may_pass_by_itself_is_tried_again(try_build) -> None:
    result, log = try_build("FROM 127.0.0.1:9/there-is:none\n")
    assert result.failure.attempts == 3
    assert "attempt 2" in log


def test_a_build_has_a_time_limit(try_build) -> None:
    result, _ = try_build(FROM + f"RUN echo {time.time_ns()}; sleep 60\n", timeout=2)
    assert result.failure.kind is FailureKind.TIMEOUT
    assert result.seconds < 15


def test_a_stopped_build_ends_soon(try_build, stop) -> None:
    Timer(1.5, stop.set).start()
    result, _ = try_build(FROM + f"RUN echo {time.time_ns()}; sleep 60\n")
    assert result.failure.kind is FailureKind.INTERRUPTED
    assert result.seconds < 15


def test_a_base_can_be_replaced_without_touching_the_recipe(tmp_path, engine, stop, one_cell) -> None:
    from rlimages.plan.planner import make_plan, parse_override

    cell = one_cell.write_project(tmp_path, "FROM debian:bookworm-slim\nRUN cat /etc/stand-in\n", {})
    stand_in = one_cell.write_project(tmp_path, FROM + "RUN echo yes >/etc/stand-in\n", {}, version="0.9")
    (first,) = one_cell.plan(stand_in).steps
    assert build_cell(first, engine, tmp_path / "logs", root=tmp_path, stop=stop).outcome is Outcome.PASSED
    override = parse_override(f"^debian={stand_in.local_name}")
    (step,) = make_plan([cell], overrides=[override], jobs=1).steps
    assert build_cell(step, engine, tmp_path / "logs", root=tmp_path, stop=stop).outcome is Outcome.PASSED


@pytest.mark.parametrize("code", [0, 1, 77])
def test_the_exit_status_of_a_check_is_the_answer(check, containers, tmp_path, code) -> None:
    checked = check(f"echo first; echo 'the reason' >&2; exit {code}\n")
    assert checked.process.code == code
    assert checked.last_line == "the reason"
    assert (tmp_path / "log").read_text() == "first\nthe reason\n"
    assert not containers()


def test_a_check_that_takes_too_long_is_killed_with_its_container(check, containers) -> None:
    checked = check("echo began; sleep 60\n", timeout=1.0)
    assert checked.process.timed_out
    assert checked.last_line == "began"
    assert checked.process.seconds < 10
    assert not containers()


def test_a_stopped_check_leaves_no_container(check, stop, containers) -> None:
    Timer(0.7, stop.set).start()
    checked = check("sleep 60\n")
    assert checked.process.cancelled
    assert checked.process.seconds < 10
    assert not containers()


def test_a_check_has_no_network_and_cannot_change_its_folder(check) -> None:
    assert check("ls /sys/class/net\n").last_line == "lo"
    assert check("touch /checks/mine 2>/dev/null || echo read-only\n").last_line == "read-only"


def test_a_check_runs_on_the_host_that_sagemaker_calls_the_first(check) -> None:
    assert check("getent hosts $(hostname)\n").last_line.split() == ["127.0.0.1", "algo-1"]


def test_a_check_that_wants_too_much_memory_is_killed_and_says_so(check) -> None:
    checked = check("tail /dev/zero\n")
    assert not checked.process.passed
    assert "memory" in checked.error or checked.process.code == 137


def test_an_interpreter_that_is_not_there_is_an_answer(check, containers) -> None:
    checked = check("", interpreter="no-such-interpreter")
    assert checked.process.code == 127
    assert "no-such-interpreter" in checked.last_line
    assert not containers()


def test_an_image_without_anything_in_it_is_an_answer(check, try_build) -> None:
    result, _ = try_build("FROM scratch\nLABEL a=b\n")
    checked = check("", image=result.image.id)
    assert not checked.process.passed
    assert checked.error


def test_an_image_that_is_not_there_is_an_answer(check, engine) -> None:
    assert "No such image" in check("", image="rlimages-test:never").error
    assert engine.inspect("rlimages-test:never") is None


@pytest.mark.alone
def test_only_what_dead_runs_left_behind_is_removed(client, engine) -> None:
    host, pid, _ = this_process().rsplit(":", 2)
    made = {}
    for name, process in (("dead", f"{host}:{pid}:1"), ("alive", this_process()), ("elsewhere", "elsewhere:1:1")):
        labels = {"rlimages.run": f"test-{name}", "rlimages.process": process}
        made[name] = client.containers.create("debian:bookworm-slim", "sleep 60", labels=labels)
    try:
        notes = engine.remove_orphans()
        left = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
        assert made["dead"].id not in left
        assert {made["alive"].id, made["elsewhere"].id} <= left
        assert any("left behind by run test-dead" in note for note in notes)
    finally:
        made["alive"].remove(force=True)
        made["elsewhere"].remove(force=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its client forgets a socket
def test_an_engine_that_goes_away_is_one_sentence(client, tmp_path, monkeypatch) -> None:
    there = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    (tmp_path / "docker.sock").symlink_to(there)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    engine = DockerEngine(run="x", stop=Stop())
    assert engine.inspect("debian:bookworm-slim")
    (tmp_path / "docker.sock").unlink()
    engine.close()
    with pytest.raises(ToolError, match="does not answer any more"):
        engine.inspect("debian:bookworm-slim")
    with pytest.raises(ToolError, match="does not answer any more"):
        engine.run_in_image("debian:bookworm-slim", ("true",), tmp_path, tmp_path / "log", 5)
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its client forgets a socket
def test_without_an_engine_there_is_one_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(ToolError, match="no Docker engine answers"):
        DockerEngine(run="x", stop=Stop()).remove_orphans()
    gc.collect()
