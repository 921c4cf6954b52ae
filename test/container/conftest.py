"""Fixtures of the container tests: a real engine, and registries on loopback. Without them the tests fail."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType

import docker
import pytest

from rlimages.engine.docker import DockerEngine
from rlimages.errors import ToolError
from rlimages.registry.http import is_reachable
from rlimages.system.process import Stop

sys.path.insert(0, str(Path(__file__).parent))
import one_cell as project_of_one_cell


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test that is marked `alone` while no other worker runs a test.

    Every run removes the leftovers of dead runs from the engine. Without this, another worker's run could remove the
    leftovers that a test of the removal has just created.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return (yield)
    turn_path, lock_path = (Path(gettempdir()) / f"rlimages-test-{run}.{name}" for name in ("turn", "working"))
    with turn_path.open("w") as turn, lock_path.open("w") as lock:
        # A worker that waits for the exclusive lock holds `turn`: otherwise new shared locks could delay it forever.
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture
def one_cell() -> ModuleType:
    """Return the module that writes a project of one cell."""
    return project_of_one_cell


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """Return a client of the engine. Remove the images of the tests at the end of the session."""
    probe = DockerEngine(run="probe", stop=Stop())
    try:
        probe.version()
    except ToolError as error:
        pytest.fail(str(error), pytrace=False)
    probe.close()
    client = docker.from_env()
    if not client.images.list(project_of_one_cell.IMAGE):
        pytest.fail(f"there is no {project_of_one_cell.IMAGE} in the local store; run: rlimages bases", pytrace=False)
    yield client
    for image in client.images.list(project_of_one_cell.REPOSITORY):
        with suppress(docker.errors.APIError):  # a container of another session still uses it
            client.images.remove(image.id, force=True)
    client.close()


@pytest.fixture
def run_name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def engine(client: docker.DockerClient, run_name: str, stop: Stop) -> Iterator[DockerEngine]:
    engine = DockerEngine(run=run_name, stop=stop, memory=256 * 2**20)
    yield engine
    engine.close()


@pytest.fixture
def containers(client: docker.DockerClient, run_name: str) -> Callable[[], list[str]]:
    """Return a function that lists the names of the containers of this test's run."""
    return lambda: [c.name for c in client.containers.list(all=True, filters={"label": f"rlimages.run={run_name}"})]


@pytest.fixture(scope="session")
def registry() -> str:
    """Return the host of the registry that `scripts/engine up --registry` starts."""
    host = f"127.0.0.1:{os.environ.get('RLIMAGES_REGISTRY_PORT', '5000')}"
    if not is_reachable(host):
        pytest.fail(f"no registry answers at {host}; run: scripts/engine up --registry", pytrace=False)
    return host


@pytest.fixture(scope="session")
def upstream(tmp_path_factory) -> Iterator[str]:
    """Start a registry with no access control for these tests only, and return its host."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        wait_for(host)
        yield host
    finally:
        process.terminate()
        process.wait()


def wait_for(host: str) -> None:
    """Wait until something listens at `host:port`."""
    name, _, port = host.partition(":")
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex((name, int(port))) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"no registry listens at {host}", pytrace=False)
