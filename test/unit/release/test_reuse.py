"""Images of a registry that replace builds."""

import pytest

from rlimages.checks.pass_record import PassRecord, store_record
from rlimages.checks.suite import check_programs, suite_digest
from rlimages.engine.protocol import BuildRequest
from rlimages.matrix.cell import Matrix
from rlimages.oci.labels import BUILD_LABEL
from rlimages.plan.results import Outcome
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.project.project import Project
from rlimages.release.reuse import find_reusable
from rlimages.release.tags import build_tag

DIGEST = "f" * 64


@pytest.fixture
def project(tmp_path, cell) -> Project:
    folder = tmp_path / "templates/smoke"
    folder.mkdir(parents=True)
    (folder / "check_import.py").write_text("print('ok')\n")
    return Project(root=tmp_path, matrix=Matrix(name="m", cells=(cell,), frameworks={}, tools={}))


@pytest.fixture
def plan(cell) -> BuildPlan:
    request = BuildRequest(dockerfile="Dockerfile", tag=cell.local_name, arguments=(), contexts=(), timeout=60)
    step = BuildStep(cell=cell, action=Action.BUILD, reason="never built", request=request, digest=DIGEST)
    return BuildPlan(steps=(step,), jobs=1)


def publish(made, image, cell, project, label: str = DIGEST) -> PassRecord:
    """Put a checked image into the registry, under its build tag."""
    stored = image("a", "2.0", labels={BUILD_LABEL: label})
    made.client.put(f"team/{cell.repository}", build_tag(DIGEST), stored)
    record = PassRecord(
        cell=cell.id,
        image=stored.manifest.image,
        suite=suite_digest(check_programs(project)(cell)),
        checks={"import": "passed"},
        at="2026-11-21T00:00:00+00:00",
    )
    store_record(record, project.state.pass_records)
    return record


def test_an_image_of_the_same_inputs_that_passed_its_checks_replaces_the_build(
    scene, image, cell, project, plan
) -> None:
    made = scene()
    record = publish(made, image, cell, project)
    decided, reused = find_reusable(plan, made.connection, project)
    (step,) = decided.steps
    assert (step.action, step.image_id) == (Action.RETAG, record.image)
    assert step.reason == f"registry/team/{cell.repository} has it, checked on 2026-11-21"
    report = reused[cell.id].report
    assert report.outcome is Outcome.PASSED
    assert [(check.check, check.reason) for check in report.smoke] == [
        ("import", "recorded in the registry, 2026-11-21T00:00:00+00:00")
    ]


def test_an_image_whose_label_has_another_build_digest_is_not_used(scene, image, cell, project, plan) -> None:
    made = scene()
    publish(made, image, cell, project, label="0" * 64)
    assert find_reusable(plan, made.connection, project) == (plan, {})


def test_an_image_is_not_used_after_a_check_was_changed(scene, image, cell, project, plan) -> None:
    made = scene()
    publish(made, image, cell, project)
    (project.root / "templates/smoke/check_import.py").write_text("print('better')\n")
    assert find_reusable(plan, made.connection, project) == (plan, {})


def test_a_registry_without_the_image_changes_nothing(scene, project, plan) -> None:
    assert find_reusable(plan, scene().connection, project) == (plan, {})
