"""Push images to a real registry and read them back."""

import time

import pytest

from rlimages.build.builder import build_cell
from rlimages.matrix.cell import Matrix
from rlimages.plan.results import CellReport, Outcome, RunReport
from rlimages.project.project import Project
from rlimages.registry.client import resolve_reference
from rlimages.release.publish import publish_images
from rlimages.release.target import open_target
from rlimages.system.context import RunContext

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def build_result(engine, stop, tmp_path, one_cell):
    """A new image whose cell has a unique tag."""
    version = f"1.{time.time_ns()}"
    cell = one_cell.write_project(tmp_path, f"FROM debian:bookworm-slim\nLABEL version={version}\n", {}, version)
    (step,) = one_cell.plan(cell).steps
    return build_cell(step, engine, tmp_path / "logs", root=tmp_path, stop=stop)


@pytest.fixture
def push(engine, stop, tmp_path, build_result):
    def push(host: str):
        report = RunReport(
            run="r",
            command="publish",
            started="",
            seconds=0,
            cells=(CellReport(cell=build_result.cell, build=build_result, image=build_result.image),),
        )
        project = Project(root=tmp_path, matrix=Matrix(name="m", cells=(build_result.cell,), frameworks={}, tools={}))
        target = open_target(project, (build_result.cell,), to=host, environ={})
        report = publish_images(
            report, target, project=project, engine=engine, folder=tmp_path, reused={}, allow_older=False,
            context=RunContext(environ={}, stop=stop), on_event=lambda _event: None,
        )  # fmt: skip
        return report.cells[0].publish

    return push


def test_a_push_has_the_digest_that_the_registry_reports(push, registry, build_result) -> None:
    results = push(registry)
    assert [result.outcome for result in results] == [Outcome.PASSED, Outcome.PASSED]
    assert len({result.digest for result in results}) == 1
    for result in results:
        remote = resolve_reference(result.reference)
        assert remote.digest == result.digest
        assert remote.image == build_result.image.id


def test_a_pushed_image_is_one_docker_manifest_as_sagemaker_needs(push, registry) -> None:
    remote = resolve_reference(push(registry)[0].reference)
    assert remote.media_type == DOCKER_MANIFEST
    assert sum(layer.size for layer in remote.layers) > 1_000_000


def test_a_push_by_digest_is_found_again(push, registry, build_result) -> None:
    result = push(registry)[0]
    repository = result.reference.rpartition(":")[0]
    assert resolve_reference(f"{repository}@{result.digest}").image == build_result.image.id


def test_pushing_again_sends_nothing(push, registry) -> None:
    push(registry)
    assert {result.reason for result in push(registry)} == {"was there already"}


def test_a_push_leaves_no_name_of_the_registry_in_the_local_store(push, registry, client) -> None:
    references = {result.reference for result in push(registry)}
    tags = {tag for image in client.images.list() for tag in image.tags}
    assert not references & tags


def test_an_unreachable_registry_fails_the_push_and_not_the_run(push) -> None:
    results = push("127.0.0.1:9")
    assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.FAILED]
    assert "cannot reach the registry" in results[0].reason


def test_a_tag_that_was_never_pushed_is_not_found(registry) -> None:
    assert resolve_reference(f"{registry}/rlimages-test:never-pushed") is None
