"""Opening a target: its address, and the tags that may move in it."""

from dataclasses import replace

import pytest

from rlimages.errors import ConfigError
from rlimages.matrix.cell import Matrix
from rlimages.project.project import Project
from rlimages.release.target import connect, open_target
from rlimages.release.targets_file import RawTarget


@pytest.fixture
def project(tmp_path, cell) -> Project:
    return Project(root=tmp_path, matrix=Matrix(name="m", cells=(cell,), frameworks={}, tools={}))


def test_in_a_plain_registry_every_tag_may_move_and_no_acceptance_rules_are_applied(project, cell) -> None:
    with open_target(project, [cell], to="127.0.0.1:5000/rl", environ={}) as target:
        (registry,) = (connection.registry for connection in target.connections)
        assert (registry.name, registry.host, registry.prefix) == ("registry", "127.0.0.1:5000", "rl")
        assert registry.may_move(cell.tag)
        assert registry.with_prefix(cell.repository) == f"rl/{cell.repository}"
        assert not registry.expires_untagged
        assert target.profiles(project) == ()
        assert (target.name, target.label) == ("", "127.0.0.1:5000/rl")


def test_in_a_target_only_the_aliases_of_the_matrix_may_move(cell) -> None:
    aliased = replace(cell, tag="ray-2.9.3", aliases=("ray-2.9",))
    (connection,) = connect("team", RawTarget(registry="127.0.0.1:5000"), [aliased], environ={})
    assert connection.registry.may_move("ray-2.9")
    assert not connection.registry.may_move("ray-2.9.3")


def test_a_target_may_define_which_tags_move(cell) -> None:
    (connection,) = connect("team", RawTarget(registry="127.0.0.1:5000", floating=["*-dev"]), [cell], environ={})
    assert connection.registry.may_move("ray-dev")
    assert not connection.registry.may_move(cell.aliases[0] if cell.aliases else cell.tag)


def test_a_target_of_a_project_without_targets_is_an_error(project, cell) -> None:
    with pytest.raises(ConfigError) as raised:
        open_target(project, [cell], target="team", environ={})
    assert str(raised.value) == (
        f"{project.root / 'targets.yaml'}: there is no such file; it defines the targets of --target"
    )
