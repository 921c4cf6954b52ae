from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.engine.protocol import LocalImage, LocalImages
from rlimages.errors import ConfigError
from rlimages.matrix.cell import Matrix
from rlimages.plan.planner import make_plan
from rlimages.plan.step import BuildPlan, RunOptions
from rlimages.project.project import Project
from rlimages.run.prepare import add_host_files, missing_bases, read_overrides, set_creation_date
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

DEBIAN = LocalImage(id="sha256:0", names=("debian:bookworm-slim",), digests=(), labels={}, size=1)


@pytest.fixture
def small_project(cell, tmp_path: Path) -> Project:
    """A project of one cell, which is built FROM debian:bookworm-slim. Nothing is locked."""
    return Project(root=tmp_path, matrix=Matrix(name="build_matrix.yaml", cells=(cell,), frameworks={}, tools={}))


@pytest.fixture
def plan(cell) -> BuildPlan:
    return make_plan([cell], jobs=1)


def test_a_debian_base_that_is_neither_local_nor_locked_is_missing(plan, small_project) -> None:
    assert missing_bases(plan, small_project, LocalImages()) == ("debian:bookworm-slim",)
    assert missing_bases(plan, small_project, LocalImages((DEBIAN,))) == ()


def test_a_base_with_an_override_is_not_missing(cell, small_project) -> None:
    options = RunOptions(stages=(), command="build", overrides=("^debian=mine:1",))
    overridden = make_plan([cell], overrides=read_overrides(options), jobs=1)
    assert missing_bases(overridden, small_project, LocalImages()) == ()


def test_a_base_that_cannot_be_bootstrapped_is_left_to_the_build(cell, small_project) -> None:
    other = replace(cell, base=replace(cell.base, image="amazonlinux:2023"))
    assert missing_bases(make_plan([other], jobs=1), small_project, LocalImages()) == ()


def test_overrides_of_the_command_line_come_before_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "overrides"
    file.write_text("# a comment\n\n^b=second:1\n")
    options = RunOptions(stages=(), command="build", overrides=("^a=first:1",), override_file=file)
    assert [override.reference for override in read_overrides(options)] == ["first:1", "second:1"]


def test_a_missing_file_of_overrides_is_a_config_error(tmp_path: Path) -> None:
    options = RunOptions(stages=(), command="build", override_file=tmp_path / "nope")
    with pytest.raises(ConfigError, match="there is no such file of base overrides"):
        read_overrides(options)


def test_every_build_gets_the_creation_date(plan) -> None:
    assert [step.request.epoch for step in set_creation_date(plan, 7).steps] == [7]


def test_a_plan_without_builds_needs_nothing_from_this_machine(plan, small_project) -> None:
    notes: list[str] = []
    skipped = make_plan([plan.steps[0].cell], skip={plan.steps[0].cell.id: "not selected"}, jobs=1)
    context = RunContext(environ={"PIP_INDEX_URL": "https://one.example.org/simple"}, stop=Stop(), note=notes.append)
    assert add_host_files(skipped, small_project, RunOptions(stages=(), command="build"), context) == skipped
    assert notes == []
