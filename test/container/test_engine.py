"""The Docker engine: builds, checks, time limits, signals, and the removal of leftovers."""

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
    """Return a function that builds a Dockerfile and returns the result and its log."""

    def try_build(dockerfile: str, timeout: int = 60, **options):
        cell = one_cell.write_project(tmp_path, dockerfile, {})
        (step,) = one_cell.plan(cell, timeout=timeout).steps
        options = {"root": tmp_path, "stop": stop, "first_wait": 0.01, **options}
        result = build_cell(step, engine, tmp_path / "logs", **options)
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


def test_the_version_names_the_engine(engine) -> None:
    assert engine.version().startswith("Docker ")


def test_a_built_image_is_in_the_local_store(try_build, engine) -> None:
    result, _ = try_build(FROM + 'LABEL a="b"\nENV X=1\nENTRYPOINT ["/bin/sh"]\n')
    assert result.outcome is Outcome.PASSED
    inspected = engine.inspect(result.image.id)
    assert inspected.image == result.image
    assert inspected.labels["a"] == "b"
    assert "X=1" in inspected.env
    assert inspected.entrypoint == ("/bin/sh",)


def test_an_image_whose_name_moved_to_a_newer_image_is_removed(try_build, engine) -> None:
    old_result, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    new_result, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    assert engine.inspect(old_result.image.id) is None
    assert engine.inspect(new_result.image.id) is not None


def test_an_image_with_another_name_is_kept(try_build, engine, client, one_cell) -> None:
    old_result, _ = try_build(FROM + f"LABEL a={time.time_ns()}\n")
    client.images.get(old_result.image.id).tag(one_cell.REPOSITORY, "kept")
    try_build(FROM + f"LABEL a={time.time_ns()}\n")
    assert engine.inspect(old_result.image.id) is not None


def test_the_log_shows_each_step_with_its_time_and_progress_names_the_steps(try_build) -> None:
    progress: list[str] = []
    _, log = try_build(FROM + f"RUN echo hello-{time.time_ns()}\n", on_progress=progress.append)
    assert "RUN echo hello-" in log
    assert any(line.endswith(" s") and "done in" in line for line in log.splitlines())
    assert any("RUN echo" in step for step in progress)


@pytest.mark.parametrize(
    ("kind", "dockerfile"),
    [
        (FailureKind.DEPENDENCY_CONFLICT, FROM + "RUN apt-get install -y no-such-package-at-all\n"),
        (FailureKind.DISK_FULL, FROM + "RUN --mount=type=tmpfs,size=1m,target=/x head -c 9000000 /dev/zero >/x/y\n"),
        (FailureKind.OUT_OF_MEMORY, FROM + "RUN sh -c 'kill -9 $$'; exit $?\n"),
        (FailureKind.COMPILE, FROM + "RUN echo 'main.cc:1:2: error: no' >&2; exit 2\n"),
        (FailureKind.NETWORK, "FROM 127.0.0.1:9/there-is:none\n"),
        (FailureKind.UNKNOWN, FROM + "RUN exit 9\n"),
    ],
)
def test_a_broken_build_is_classified(try_build, kind, dockerfile) -> None:
    result, log = try_build(dockerfile)
    assert result.outcome is Outcome.FAILED
    assert result.failure.kind is kind
    assert result.failure.evidence
    assert "ERROR" in log


def test_a_base_image_that_the_registry_lacks_is_a_registry_failure(try_build, registry) -> None:
    result, _ = try_build(f"FROM {registry}/no-such-thing:1\n")
    assert result.failure.kind is FailureKind.REGISTRY
    assert result.failure.attempts == 1


def test_a_network_failure_is_retried(try_build) -> None:
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


def test_a_base_override_needs_no_change_of_the_dockerfile(tmp_path, engine, stop, one_cell) -> None:
    from rlimages.plan.planner import make_plan, parse_override

    cell = one_cell.write_project(tmp_path, "FROM debian:bookworm-slim\nRUN cat /etc/override\n", {})
    base_cell = one_cell.write_project(tmp_path, FROM + "RUN echo yes >/etc/override\n", {}, version="0.9")
    (first,) = one_cell.plan(base_cell).steps
    assert build_cell(first, engine, tmp_path / "logs", root=tmp_path, stop=stop).outcome is Outcome.PASSED
    override = parse_override(f"^debian={base_cell.local_name}")
    (step,) = make_plan([cell], overrides=[override], jobs=1).steps
    assert build_cell(step, engine, tmp_path / "logs", root=tmp_path, stop=stop).outcome is Outcome.PASSED


@pytest.mark.parametrize("code", [0, 1, 77])
def test_a_check_result_has_the_exit_status_and_the_last_line(check, containers, tmp_path, code) -> None:
    result = check(f"echo first; echo 'the reason' >&2; exit {code}\n")
    assert result.process.code == code
    assert result.last_line == "the reason"
    assert (tmp_path / "log").read_text() == "first\nthe reason\n"
    assert not containers()


def test_a_check_that_exceeds_its_time_limit_is_killed_with_its_container(check, containers) -> None:
    result = check("echo started; sleep 60\n", timeout=1.0)
    assert result.process.timed_out
    assert result.last_line == "started"
    assert result.process.seconds < 10
    assert not containers()


def test_a_stopped_check_leaves_no_container(check, stop, containers) -> None:
    Timer(0.7, stop.set).start()
    result = check("sleep 60\n")
    assert result.process.cancelled
    assert result.process.seconds < 10
    assert not containers()


def test_a_check_has_no_network_and_a_read_only_folder(check) -> None:
    assert check("ls /sys/class/net\n").last_line == "lo"
    assert check("touch /checks/mine 2>/dev/null || echo read-only\n").last_line == "read-only"


def test_a_check_runs_on_a_host_with_the_name_algo_1(check) -> None:
    assert check("getent hosts $(hostname)\n").last_line.split() == ["127.0.0.1", "algo-1"]


def test_a_check_that_exceeds_the_memory_limit_is_killed_and_the_reason_is_reported(check) -> None:
    result = check("tail /dev/zero\n")
    assert not result.process.passed
    assert "memory" in result.error or result.process.code == 137


def test_a_missing_interpreter_is_a_failed_check(check, containers) -> None:
    result = check("", interpreter="no-such-interpreter")
    assert result.process.code == 127
    assert "no-such-interpreter" in result.last_line
    assert not containers()


def test_an_empty_image_is_a_failed_check(check, try_build) -> None:
    result, _ = try_build("FROM scratch\nLABEL a=b\n")
    result = check("", image=result.image.id)
    assert not result.process.passed
    assert result.error


def test_a_missing_image_is_a_failed_check(check, engine) -> None:
    assert "No such image" in check("", image="rlimages-test:never").error
    assert engine.inspect("rlimages-test:never") is None


@pytest.mark.alone
def test_only_containers_of_dead_runs_on_this_host_are_removed(client, engine) -> None:
    host, pid, _ = this_process().rsplit(":", 2)
    containers_by_name = {}
    for name, process in (("dead", f"{host}:{pid}:1"), ("alive", this_process()), ("elsewhere", "elsewhere:1:1")):
        labels = {"rlimages.run": f"test-{name}", "rlimages.process": process}
        containers_by_name[name] = client.containers.create("debian:bookworm-slim", "sleep 60", labels=labels)
    try:
        notes = engine.remove_orphans()
        container_ids = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
        assert containers_by_name["dead"].id not in container_ids
        assert {containers_by_name["alive"].id, containers_by_name["elsewhere"].id} <= container_ids
        assert any("left behind by run test-dead" in note for note in notes)
    finally:
        containers_by_name["alive"].remove(force=True)
        containers_by_name["elsewhere"].remove(force=True)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client of Docker leaves a socket open
def test_a_lost_engine_is_reported_in_one_sentence(client, tmp_path, monkeypatch) -> None:
    socket_path = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    (tmp_path / "docker.sock").symlink_to(socket_path)
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


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client of Docker leaves a socket open
def test_a_missing_engine_is_reported_in_one_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(ToolError, match="no Docker engine answers"):
        DockerEngine(run="x", stop=Stop()).remove_orphans()
    gc.collect()
