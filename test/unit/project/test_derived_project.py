"""A project of one's own, whose cells extend those of this one."""

from pathlib import Path

import pytest

from rlimages.checks.smoke import find_checks
from rlimages.engine.protocol import LocalImage, LocalImages
from rlimages.errors import ConfigError
from rlimages.plan.planner import make_plan, parse_override
from rlimages.plan.step import Action
from rlimages.project.generated import diff_generated, generate_files, write_generated
from rlimages.project.project import Project, load_project
from rlimages.project.requirements_lock import inherited_lock_inputs, locked_packages, stale_locks, uv_commands
from rlimages.run.prepare import without_orphans
from rlimages.system.files import read_text

ROOT = Path(__file__).resolve().parents[3]
MATRIX = """
version: 1
parents: {parents}
toolkits:
  maze:
    "1.0":
      pip: [maze-generator]
      images:
        - extends: ray-2.9.3-tf-cpu-debian
          repository: my-maze
          tag: "1.0"
        - extends: ray-0.8.2-tf-{{processor}}
          repository: my-maze
          tag: 0.8.2-{{processor}}
"""
GRANDCHILD = """
version: 1
parents: {parents}
toolkits:
  {name}:
    "1.0":
      pip: [{name}-generator]
      images:
        - {{extends: {extends}, repository: my-{name}, tag: "1.0"}}
"""


@pytest.fixture
def child(tmp_path: Path) -> Project:
    return make(tmp_path)


def make(folder: Path, text: str = MATRIX) -> Project:
    (folder / "build_matrix.yaml").write_text(text.format(parents=ROOT / "build_matrix.yaml"))
    return load_project(None, folder)


def test_a_recipe_stands_on_the_parents_image_and_keeps_its_entrypoint(child: Project) -> None:
    recipe = generate_files(child)["maze/docker/1.0/Dockerfile.tf.debian"]
    assert "\nFROM sagemaker-rl-ray-container:ray-2.9.3-tf-cpu-py311-debian12 AS base-cpu\n" in recipe
    assert 'rlimages.cell="maze-1.0-tf-${processor}-debian"' in recipe
    assert "ENTRYPOINT" not in recipe


def test_a_published_parent_is_pulled_from_sagemakers_account(child: Project) -> None:
    recipe = generate_files(child)["maze/docker/1.0/Dockerfile.tf"]
    reference = "${account}.dkr.ecr.${region}.${domain}/sagemaker-rl-ray-container:ray-0.8.2-tf-gpu-py36"
    assert f"\nFROM {reference} AS base-gpu\n" in recipe
    assert "ARG account=462105765813\n" in recipe


def test_a_project_of_ones_own_is_a_whole_build_context(child: Project) -> None:
    list(write_generated(child))
    for recipe in child.root.glob("maze/docker/*/Dockerfile*"):
        for line in recipe.read_text().splitlines():
            _, _, source = line.partition("source=templates/")
            program = child.root / "templates" / source.partition(",")[0]
            assert not source or program.stat().st_mode & 0o111
    assert not list(diff_generated(child))


def test_files_for_the_image_are_copied_only_where_there_are_any(child: Project) -> None:
    path = "maze/docker/1.0/Dockerfile.tf.debian"
    assert "cp -R" not in generate_files(child)[path]
    (child.root / "maze/rootfs").mkdir(parents=True)
    recipe = generate_files(load_project(None, child.root))[path]
    assert "source=maze/rootfs,target=/run/build/files" in recipe
    assert "/run/build/stamped.sh cp -R /run/build/files/. /\n" in recipe


def test_all_that_the_parent_has_binds_the_childs_lock_and_is_not_in_it(child: Project) -> None:
    asked = child.lock_inputs(child.cells)[0]
    parents = locked_packages(read_text(ROOT / "ray/lock/ray-2.9.3-tf-cpu-debian.txt"))
    assert {f"{name}=={version}" for name, version in parents.items()} <= set(asked.provided)
    *_, last = uv_commands("uv", "python3.11", asked, Path("/x"))
    left_out = [last[place + 1] for place, word in enumerate(last) if word == "--no-emit-package"]
    assert set(parents) <= set(left_out)


def test_a_parent_that_was_locked_anew_makes_the_childs_lock_stale(tmp_path: Path, project: Project) -> None:
    first, second = (inherited_lock_inputs(child_cell(tmp_path), asked, text).digest for asked, text in locks(project))
    assert first != second


def child_cell(folder: Path):
    return make(folder).cells[0]


def locks(project: Project):
    parent = next(cell for cell in project.cells if cell.id == "ray-2.9.3-tf-cpu-debian")
    (asked,) = project.lock_inputs((parent,))
    text = read_text(project.root / parent.lock)
    return (asked, text), (asked, text.replace("gymnasium==0.28.1", "gymnasium==0.29.1"))


def test_what_no_resolver_reads_is_left_out_of_the_childs_too(tmp_path: Path) -> None:
    text = MATRIX.replace("ray-2.9.3-tf-cpu-debian", "coach-0.11.0-mxnet-cpu")
    asked = make(tmp_path, text).lock_inputs(load_project(None, tmp_path).cells)[0]
    assert asked.files()["excludes.txt"] == "pandas\n"
    assert not [pin for pin in asked.provided if pin.startswith("pandas==")]


def test_a_cell_that_asks_for_no_package_has_no_lock(tmp_path: Path) -> None:
    bare = make(tmp_path, MATRIX.replace("      pip: [maze-generator]\n", ""))
    assert not bare.lock_inputs(bare.cells)
    assert "lock" not in generate_files(bare)["maze/docker/1.0/Dockerfile.tf.debian"]


def test_what_extends_may_be_extended(tmp_path: Path) -> None:
    for name, parents, extends in (
        ("a", ROOT / "build_matrix.yaml", "ray-2.9.3-tf-cpu-debian"),
        ("b", "../a/build_matrix.yaml", "maze-1.0-tf-cpu-debian"),
    ):
        (tmp_path / name).mkdir()
        text = GRANDCHILD.format(name="maze" if name == "a" else "tower", parents=parents, extends=extends)
        (tmp_path / name / "build_matrix.yaml").write_text(text)
    grandchild = load_project(tmp_path / "b" / "build_matrix.yaml", tmp_path)
    (cell,) = grandchild.cells
    assert (cell.id, cell.base.image) == ("tower-1.0-tf-cpu-debian", "my-maze:1.0")
    assert "gymnasium==0.28.1" in grandchild.lock_inputs((cell,))[0].provided
    checks = find_checks(grandchild.roots, cell, grandchild.cells_by_id)
    assert {check.cell.toolkit for check in checks} == {"tower", "ray"}


def test_parents_that_are_not_there_are_named_with_the_place(tmp_path: Path) -> None:
    text = MATRIX.replace("{parents}", "../nowhere/build_matrix.yaml")
    with pytest.raises(ConfigError, match=r"build_matrix.yaml:3:10: parents: .*nowhere/build_matrix.yaml: cannot be"):
        make(tmp_path, text)


def test_a_matrix_is_not_its_own_parent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a circle"):
        make(tmp_path, MATRIX.replace("{parents}", "build_matrix.yaml"))


@pytest.mark.parametrize("name", ["corridor", "unity"])
def test_the_examples_are_in_step(name: str) -> None:
    example = load_project(ROOT / "examples" / name / "build_matrix.yaml", ROOT)
    assert not list(diff_generated(example))
    assert not list(stale_locks(example.lock_inputs(example.cells), example.root, example.toolkits))


def test_a_cell_without_its_parents_image_is_skipped_with_what_to_do(child: Project) -> None:
    todo = make_plan(child.cells[:1], jobs=1)
    (step,) = without_orphans(todo, LocalImages(), child).steps
    assert step.action is Action.SKIP
    assert step.reason == (
        "there is no image sagemaker-rl-ray-container:ray-2.9.3-tf-cpu-py311-debian12 in the local store; "
        f"rlimages --matrix {ROOT / 'build_matrix.yaml'} build --select ray-2.9.3-tf-cpu-debian"
    )


def test_a_parent_in_the_store_in_ecr_or_in_another_place_is_enough(child: Project) -> None:
    open_one, *published = child.cells
    elsewhere = [parse_override("ray-container:ray-2.9.3=a.example/ray:2.9.3")]
    for cells, overrides in (([open_one], elsewhere), (published, [])):
        arguments = child.base_arguments(cells)
        todo = make_plan(cells, jobs=1, registries=arguments, overrides=overrides)
        assert without_orphans(todo, LocalImages(), child) == todo
    parent = LocalImage(id="sha256:1", names=(open_one.base.image,), digests=(), labels={}, size=1)
    todo = make_plan([open_one], jobs=1)
    assert without_orphans(todo, LocalImages((parent,)), child) == todo
