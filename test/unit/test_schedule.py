from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlimages.cell import Base
from rlimages.errors import MatrixError, UsageError
from rlimages.plan import Action
from rlimages.schedule import default_jobs, lend, make_plan, parse_override

GIB = 2**30
ECR = {"account": "520713654638", "region": "us-west-2", "domain": "amazonaws.com"}


@pytest.fixture
def ecr_cell(cell):
    base: Base = replace(cell.base, registry="scriptmode", image="sagemaker-tensorflow-scriptmode:1.13.1-cpu-py3")
    return replace(cell, version="0.6.5", base=base)


def only(plan):
    (step,) = plan.steps
    return step


def test_a_step_says_what_the_build_needs(cell) -> None:
    step = only(make_plan([cell], jobs=2))
    assert step.action is Action.BUILD
    assert step.recipe == cell.recipe
    assert step.image == cell.local_name
    assert step.arguments == (("processor", "cpu"),)
    assert step.contexts == ()
    assert step.timeout == cell.timeout


def test_a_base_in_ecr_is_told_its_account_region_and_domain(ecr_cell) -> None:
    step = only(make_plan([ecr_cell], registries={"scriptmode": ECR}, jobs=1))
    assert step.arguments == (("processor", "cpu"), *ECR.items())


def test_an_override_matches_the_reference_after_the_arguments_are_filled_in(ecr_cell) -> None:
    override = parse_override(r"^\d+\.dkr\.ecr\..*:1\.13=127.0.0.1:5000/stand-in:1")
    step = only(make_plan([ecr_cell], registries={"scriptmode": ECR}, overrides=[override], jobs=1))
    base = "520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-scriptmode:1.13.1-cpu-py3"
    assert step.contexts == ((base, "docker-image://127.0.0.1:5000/stand-in:1"),)


def test_the_first_override_that_matches_wins(cell) -> None:
    overrides = [parse_override("bookworm=one"), parse_override("debian=two")]
    assert only(make_plan([cell], overrides=overrides, jobs=1)).contexts[0][1] == "docker-image://one"


def test_an_override_that_no_base_needs_is_an_error(cell) -> None:
    with pytest.raises(UsageError, match=r"'bokworm' matches no base of: debian:bookworm-slim"):
        make_plan([cell], overrides=[parse_override("bokworm=x")], jobs=1)


@pytest.mark.parametrize("text", ["", "x", "=x", "x=", "([=x"])
def test_an_override_that_cannot_be_read_says_how_to_write_it(text) -> None:
    with pytest.raises(UsageError, match=r"--base-override '.*REGEX=REFERENCE|not a regular expression"):
        parse_override(text)


def test_a_pattern_may_hold_an_equals_sign() -> None:
    override = parse_override("a=b=c:1")
    assert (override.pattern.pattern, override.reference) == ("a=b", "c:1")


def test_the_buildhost_of_a_cell_is_a_named_context(cell) -> None:
    step = only(lend(make_plan([cell], jobs=1), {cell.id: Path("/x/y")}))
    assert step.contexts == (("buildhost", "/x/y"),)


def test_a_derived_cell_comes_after_its_parent_and_stands_on_its_image(cell) -> None:
    base = replace(cell.base, image="sagemaker-rl-ray-container:parent")
    child = replace(cell, version="3.0", base=base, extends=cell.id)
    plan = make_plan([child, cell], jobs=1)
    assert [step.cell.id for step in plan.steps] == [cell.id, child.id]
    assert plan.steps[1].needs == (cell.id,)
    assert plan.steps[1].contexts == ((base.image, f"docker-image://{cell.local_name}"),)


def test_a_parent_that_was_not_chosen_is_not_waited_for(cell) -> None:
    step = only(make_plan([replace(cell, extends="ray-1.0-tf-cpu")], jobs=1))
    assert step.needs == ()


def test_cells_that_extend_in_a_circle_are_an_error(cell) -> None:
    one, two = replace(cell, version="1.0"), replace(cell, version="2.0")
    with pytest.raises(MatrixError, match="circle"):
        make_plan([replace(one, extends=two.id), replace(two, extends=one.id)], jobs=1)


def test_a_cell_can_be_skipped_for_a_reason(cell) -> None:
    step = only(make_plan([cell], skip={cell.id: "its base cannot be pulled"}, jobs=1))
    assert (step.action, step.reason) == (Action.SKIP, "its base cannot be pulled")


def test_a_time_limit_of_the_command_line_replaces_the_matrixs(cell) -> None:
    assert only(make_plan([cell], timeout=5, jobs=1)).timeout == 5


@pytest.mark.parametrize(
    ("cores", "memory", "jobs"),
    [(2, 24 * GIB, 2), (64, 512 * GIB, 4), (8, 8 * GIB, 2), (1, 1 * GIB, 1), (4, 0, 1)],
)
def test_as_many_builds_run_as_fit_the_machine(cores, memory, jobs) -> None:
    assert default_jobs(cores=cores, memory=memory) == jobs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.data())
def test_parents_always_come_first(cell, shape) -> None:
    size = shape.draw(st.integers(1, 8))
    cells = [replace(cell, version=f"{number}.0") for number in range(size)]
    for number in range(1, size):
        parent = shape.draw(st.integers(-1, number - 1))
        cells[number] = replace(cells[number], extends=cells[parent].id if parent >= 0 else None)
    seen: set[str] = set()
    for step in make_plan(shape.draw(st.permutations(cells)), jobs=1).steps:
        assert set(step.needs) <= seen
        assert step.needs == ((step.cell.extends,) if step.cell.extends else ())
        seen.add(step.cell.id)
    assert len(seen) == size
