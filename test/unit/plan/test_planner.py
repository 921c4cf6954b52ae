from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlimages.build.resources import default_jobs
from rlimages.errors import ConfigError, UsageError
from rlimages.matrix.cell import Base
from rlimages.plan.history import CellHistory, History, Measurement
from rlimages.plan.planner import add_host_contexts, longest_first, make_plan, parse_override
from rlimages.plan.step import Action

GIB = 2**30
ECR = {"account": "520713654638", "region": "us-west-2", "domain": "amazonaws.com"}


@pytest.fixture
def ecr_cell(cell):
    base: Base = replace(cell.base, registry="scriptmode", image="sagemaker-tensorflow-scriptmode:1.13.1-cpu-py3")
    return replace(cell, version="0.6.5", base=base)


def only(plan):
    (step,) = plan.steps
    return step


def test_a_step_has_the_build_request_of_its_cell(cell) -> None:
    step = only(make_plan([cell], jobs=2))
    assert step.action is Action.BUILD
    assert step.request.dockerfile == cell.dockerfile
    assert step.request.tag == cell.local_name
    assert step.request.arguments == (("processor", "cpu"),)
    assert step.request.contexts == ()
    assert step.request.timeout == cell.timeout


def test_a_base_image_in_ecr_gets_account_region_and_domain_as_build_arguments(ecr_cell) -> None:
    step = only(make_plan([ecr_cell], registries={"scriptmode": ECR}, jobs=1))
    assert step.request.arguments == (("processor", "cpu"), *ECR.items())


def test_an_override_matches_the_reference_after_the_arguments_are_filled_in(ecr_cell) -> None:
    override = parse_override(r"^\d+\.dkr\.ecr\..*:1\.13=127.0.0.1:5000/replacement:1")
    step = only(make_plan([ecr_cell], registries={"scriptmode": ECR}, overrides=[override], jobs=1))
    base = "520713654638.dkr.ecr.us-west-2.amazonaws.com/sagemaker-tensorflow-scriptmode:1.13.1-cpu-py3"
    assert step.request.contexts == ((base, "docker-image://127.0.0.1:5000/replacement:1"),)


def test_the_first_override_that_matches_wins(cell) -> None:
    overrides = [parse_override("bookworm=one"), parse_override("debian=two")]
    assert only(make_plan([cell], overrides=overrides, jobs=1)).request.contexts[0][1] == "docker-image://one"


def test_an_override_that_matches_no_base_image_is_an_error(cell) -> None:
    with pytest.raises(UsageError, match=r"'bokworm' matches no base image of: debian:bookworm-slim"):
        make_plan([cell], overrides=[parse_override("bokworm=x")], jobs=1)


@pytest.mark.parametrize("text", ["", "x", "=x", "x=", "([=x"])
def test_a_malformed_override_is_an_error_with_the_right_form(text) -> None:
    with pytest.raises(UsageError, match=r"--base-override '.*REGEX=REFERENCE|not a regular expression"):
        parse_override(text)


def test_a_pattern_may_contain_an_equals_sign() -> None:
    override = parse_override("a=b=c:1")
    assert (override.pattern.pattern, override.reference) == ("a=b", "c:1")


def test_the_host_context_of_a_cell_is_a_named_context(cell) -> None:
    step = only(add_host_contexts(make_plan([cell], jobs=1), {cell.id: Path("/x/y")}))
    assert step.request.contexts == (("buildhost", "/x/y"),)


def test_a_derived_cell_comes_after_its_parent_and_is_built_from_its_image(cell) -> None:
    base = replace(cell.base, image="sagemaker-rl-ray-container:parent")
    child = replace(cell, version="3.0", base=base, extends=cell.id)
    plan = make_plan([child, cell], jobs=1)
    assert [step.cell.id for step in plan.steps] == [cell.id, child.id]
    assert plan.steps[1].needs == (cell.id,)
    assert plan.steps[1].request.contexts == ((base.image, f"docker-image://{cell.local_name}"),)


def test_a_step_does_not_wait_for_a_parent_that_was_not_selected(cell) -> None:
    step = only(make_plan([replace(cell, extends="ray-1.0-tf-cpu")], jobs=1))
    assert step.needs == ()


def test_cells_that_extend_in_a_circle_are_an_error(cell) -> None:
    one, two = replace(cell, version="1.0"), replace(cell, version="2.0")
    with pytest.raises(ConfigError, match="circle"):
        make_plan([replace(one, extends=two.id), replace(two, extends=one.id)], jobs=1)


def test_a_skipped_cell_has_the_reason(cell) -> None:
    step = only(make_plan([cell], skip={cell.id: "its base cannot be pulled"}, jobs=1))
    assert (step.action, step.reason) == (Action.SKIP, "its base cannot be pulled")


def test_the_timeout_option_replaces_the_timeout_of_the_matrix(cell) -> None:
    assert only(make_plan([cell], timeout=5, jobs=1)).request.timeout == 5


@pytest.mark.parametrize(
    ("cores", "memory", "jobs"),
    [(2, 24 * GIB, 2), (64, 512 * GIB, 4), (8, 6 * GIB, 3), (1, 1 * GIB, 1), (4, 0, 1)],
)
def test_the_default_number_of_jobs_fits_the_machine(cores, memory, jobs) -> None:
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


def history_of(durations) -> History:
    """Return a history with one build of each of these cell ids and its duration in seconds."""
    records = {
        name: CellHistory(toolkit="ray", builds=(Measurement(seconds=seconds, date="2026-01-01"),))
        for name, seconds in durations.items()
    }
    return History(records=records)


def test_the_longest_build_starts_first(make_step) -> None:
    steps = [make_step(version) for version in ("1.0", "2.0", "3.0")]
    history = history_of({steps[0].cell.id: 5, steps[1].cell.id: 900, steps[2].cell.id: 60})
    assert longest_first(steps, history) == (steps[1].cell.id, steps[2].cell.id, steps[0].cell.id)


def test_a_parent_counts_with_the_longest_chain_that_extends_it(make_step) -> None:
    parent, alone = make_step("1.0"), make_step("4.0")
    child = make_step("2.0", needs=(parent.cell.id,))
    other = make_step("3.0", needs=(parent.cell.id,))
    history = history_of({parent.cell.id: 1, child.cell.id: 50, other.cell.id: 7, alone.cell.id: 40})
    order = longest_first([alone, parent, other, child], history)
    assert order == (parent.cell.id, child.cell.id, alone.cell.id, other.cell.id)


def test_a_cell_that_was_never_built_starts_before_measured_ones(make_step) -> None:
    known, unknown = make_step("1.0"), make_step("2.0")
    assert longest_first([known, unknown], history_of({known.cell.id: 900}))[0] == unknown.cell.id


def test_without_history_longer_chains_start_first_and_equal_ones_keep_the_order_of_the_plan(make_step) -> None:
    one, two, parent = make_step("1.0"), make_step("2.0"), make_step("3.0")
    child = make_step("4.0", needs=(parent.cell.id,))
    order = longest_first([one, two, parent, child], History())
    assert order == (parent.cell.id, one.cell.id, two.cell.id, child.cell.id)


def test_a_cell_that_is_not_built_counts_zero_seconds(make_step) -> None:
    short, skipped = make_step("1.0"), make_step("2.0", action=Action.SKIP)
    history = history_of({short.cell.id: 1, skipped.cell.id: 900})
    assert longest_first([skipped, short], history)[0] == short.cell.id


def finish(order, needs, seconds, jobs) -> tuple[float, list[str]]:
    """Simulate workers that start cells in this order; return the end time and the order of the starts."""
    now, ends, running, begun = 0.0, {}, [], []
    while len(begun) < len(order) or running:
        waiting = [name for name in order if name not in begun]
        ready = [name for name in waiting if all(need in ends and ends[need] <= now for need in needs[name])]
        while ready and len(running) < jobs:
            name = ready.pop(0)
            begun.append(name)
            ends[name] = now + seconds[name]
            heappush(running, ends[name])
        now = heappop(running)
        while running and running[0] <= now:
            heappop(running)
    return now, begun


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.data())
def test_the_duration_of_a_run_is_within_grahams_bound(make_step, shape) -> None:
    """Graham's bound for lists of jobs on m workers; with it, no order can be better than by a factor of 2 - 1/m."""
    size, jobs = shape.draw(st.integers(1, 9)), shape.draw(st.integers(1, 4))
    steps, seconds, longest = [], {}, {}
    for number in range(size):
        parent = shape.draw(st.integers(-1, number - 1))
        needs = (steps[parent].cell.id,) if parent >= 0 else ()
        steps.append(make_step(f"{number}.0", needs=needs))
        name = steps[-1].cell.id
        seconds[name] = shape.draw(st.integers(1, 100))
        longest[name] = seconds[name] + max((longest[need] for need in needs), default=0)
    needs_of = {step.cell.id: step.needs for step in steps}
    end, begun = finish(longest_first(steps, history_of(seconds)), needs_of, seconds, jobs)
    in_order, _ = finish(tuple(needs_of), needs_of, seconds, jobs)
    assert all(begun.index(need) < begun.index(name) for name in begun for need in needs_of[name])
    assert end <= sum(seconds.values()) / jobs + (1 - 1 / jobs) * max(longest.values()) + 1e-9
    assert end <= (2 - 1 / jobs) * in_order + 1e-9


def test_with_two_workers_a_long_last_cell_does_not_prolong_the_run(make_step) -> None:
    steps = [make_step(f"{number}.0") for number in range(5)]
    seconds = dict(zip((step.cell.id for step in steps), (10, 10, 10, 10, 40), strict=True))
    needs = {step.cell.id: () for step in steps}
    assert finish(tuple(seconds), needs, seconds, 2)[0] == 60
    assert finish(longest_first(steps, history_of(seconds)), needs, seconds, 2)[0] == 40


def test_a_cache_registry_is_searched_for_the_image_of_the_same_cell(cell) -> None:
    step = only(make_plan([cell], caches=["127.0.0.1:5000/ci", "r.example.org"], inline_cache=True, jobs=1))
    assert step.request.cache_from == (f"127.0.0.1:5000/ci/{cell.local_name}", f"r.example.org/{cell.local_name}")
    assert step.request.inline_cache


@pytest.mark.parametrize("registry", ["", "https://r.example.org", "r.example.org/", "r.example.org/x:1", "a b"])
def test_a_malformed_cache_registry_is_an_error_with_the_right_form(cell, registry) -> None:
    with pytest.raises(UsageError, match=r"--cache-from '.*': write it as host\[:port\]\[/prefix\]"):
        make_plan([cell], caches=[registry], jobs=1)
