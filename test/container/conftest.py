"""Everything here asks a real engine, and a registry on loopback. Where there is none, that is a failure."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import docker
import pytest

from rlimages.engine import DockerEngine
from rlimages.errors import ToolError
from rlimages.shell import Stop
from rlimages.wire import answers

sys.path.insert(0, str(Path(__file__).parent))
import one_cell as project_of_one_cell


@pytest.fixture
def one_cell() -> ModuleType:
    return project_of_one_cell


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
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
    """The names of the containers that this test's run has now."""
    return lambda: [c.name for c in client.containers.list(all=True, filters={"label": f"rlimages.run={run_name}"})]


@pytest.fixture(scope="session")
def registry() -> str:
    host = f"127.0.0.1:{os.environ.get('RLIMAGES_REGISTRY_PORT', '5000')}"
    if not answers(host):
        pytest.fail(f"no registry answers at {host}; run: scripts/engine up --registry", pytrace=False)
    return host
