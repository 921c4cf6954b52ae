import re
import textwrap
from pathlib import Path

import pytest
import yaml

from rlimages.config.schema import StrictModel
from rlimages.errors import ConfigError
from rlimages.matrix import schema
from rlimages.matrix.cell import Cell
from rlimages.matrix.parser import parse_matrix
from rlimages.project.project import Project

PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())
TABLES = ("rl-legacy", "sagemaker-legacy")
VALID = """
version: 1
frameworks:
  tf: {title: TensorFlow, sdk: tensorflow, distribution: tensorflow}
bases:
  tf-1:
    framework: {name: tf, version: "1.11.0"}
    registry: sagemaker-legacy
    image: {cpu: "tf:1-cpu", gpu: "tf:1-gpu"}
    os: ubuntu16.04
    python: "3.6"
    cuda: "9.0"
toolkits:
  coach:
    "0.11.0":
      as_of: 2019-05-01
      pip: [gym==0.10.5]
      images:
        - base: tf-1
          repository: rl
          tag: coach0.11.0-{processor}
"""


def parse(text: str) -> tuple[Cell, ...]:
    return parse_matrix(text, "m.yaml", TABLES).cells


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def test_a_row_becomes_one_cell_for_each_processor_of_its_base() -> None:
    assert [cell.id for cell in parse(VALID)] == ["coach-0.11.0-tf-cpu", "coach-0.11.0-tf-gpu"]


def test_cuda_belongs_to_the_gpu_image() -> None:
    assert [cell.base.cuda for cell in parse(VALID)] == [None, "9.0"]


def test_the_inventory_has_exact_pins_and_the_framework_of_the_base() -> None:
    assert dict(parse(VALID)[0].inventory) == {"gym": "0.10.5", "tensorflow": "1.11.0"}


def test_lists_of_an_image_follow_those_of_its_version() -> None:
    text = VALID + "          pip: [lz4]\n          pip_for: {gpu: [cupy]}\n"
    assert [cell.requirements.direct for cell in parse(text)] == [
        ("gym==0.10.5", "lz4"),
        ("gym==0.10.5", "lz4", "cupy"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("repository: rl", "repositry: rl", "20:11: toolkits.coach['0.11.0'].images[0].repositry: unknown key; did you mean 'repository'?"),
        ("cpu: \"tf:1-cpu\"", "cpuu: \"tf:1-cpu\"", "9:13: bases.tf-1.image.cpuu: 'cpuu' is not one of cpu, gpu; did you mean 'cpu'?"),
        ("base: tf-1", "base: tf-2", "19:17: toolkits.coach['0.11.0'].images[0].base: there is no base 'tf-2'; did you mean 'tf-1'?"),
        ('version: "1.11.0"', "version: 1.11", '7:36: bases.tf-1.framework.version: \'1.11\' must be a string: write "1.11" in quotes'),
        ('"0.11.0":', '"0.11.0bases":', "15:5: toolkits.coach['0.11.0bases']: '0.11.0bases' is not of the form"),
        ('"0.11.0":', "0.11:", "15:5: toolkits.coach: a key must be a string: write '0.11' in quotes"),
        ("os: ubuntu16.04", "os: ubuntu16.04\n    os: ubuntu18.04", "11:5: bases.tf-1.os: duplicate key, first given on line 10"),
        ("registry: sagemaker-legacy", "registry: sagemaker-legasy", "8:15: bases.tf-1.registry: 'sagemaker-legasy' is not an account table; did you mean 'sagemaker-legacy'?"),
        ("name: tf", "name: tff", "7:23: bases.tf-1.framework.name: 'tff' is not one of the frameworks tf; did you mean 'tf'?"),
        ("    os: ubuntu16.04\n", "", "7:5: bases.tf-1: the key 'os' is missing"),
        ("gym==0.10.5", "gym=0.10.5", "17:13: toolkits.coach['0.11.0'].pip[0]: 'gym=0.10.5' is not a requirement such as numpy==1.24.3"),
        ("tag: coach0.11.0-{processor}", "tag: coach0.11.0", "21:16: toolkits.coach['0.11.0'].images[0].tag: one tag for several processors: write {processor} where the tags differ"),
        ("as_of: 2019-05-01", "as_of: soon", "16:14: toolkits.coach['0.11.0'].as_of: 'soon' is not of the form"),
        ("pip: [gym==0.10.5]", "pip: gym", "17:12: toolkits.coach['0.11.0'].pip: this must be a list, not 'gym'"),
        ("as_of: 2019-05-01\n      ", "", "18:11: toolkits.coach['0.11.0'].images[0]: the key 'as_of' is missing here and in the version: it is the date as of which the lock is resolved"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_position_and_a_remedy(old: str, new: str, expected: str) -> None:
    assert old in VALID
    assert f"m.yaml:{expected}" in error_of(VALID.replace(old, new))


def test_all_mistakes_are_reported_together_in_the_order_of_the_file() -> None:
    text = VALID.replace("name: tf,", "name: tff,").replace("base: tf-1", "base: tf-2").replace("==0.10.5", "==")
    places = [line.split(":")[1] for line in error_of(text).splitlines()]
    assert places == ["7", "17", "19"]


def test_two_cells_cannot_have_the_same_id_or_tag() -> None:
    row = (
        "        - base: tf-1\n          processors: [cpu]\n          repository: rl\n          tag: coach0.11.0-cpu\n"
    )
    lines = error_of(VALID + row).splitlines()
    assert lines == [
        "m.yaml:22:11: toolkits.coach['0.11.0'].images[1]: coach-0.11.0-tf-cpu and coach-0.11.0-tf-cpu (m.yaml:19) "
        "both have the tag rl:coach0.11.0-cpu",
        "m.yaml:22:11: toolkits.coach['0.11.0'].images[1]: two cells have the id coach-0.11.0-tf-cpu; "
        "the first is at m.yaml:19",
    ]


def test_an_alias_must_not_point_to_an_older_patch_version() -> None:
    newer = textwrap.dedent(VALID.split("toolkits:\n  coach:\n")[1]).replace("0.11.0", "0.11.1")
    text = VALID + '          aliases: ["coach0.11-{processor}"]\n' + textwrap.indent(newer, "    ")
    assert "the alias coach0.11-cpu would point to 0.11.0, but coach-0.11.1-tf-cpu (m.yaml:27) is newer" in error_of(
        text
    )


CHILD = """
  maze:
    "1.0":
      images:
        - extends: coach-0.11.0-tf-{processor}
          repository: maze
          tag: 1.0-{processor}
          pip: [maze==2.0]
"""


def test_a_cell_has_what_its_row_does_not_set_from_the_cell_that_it_extends() -> None:
    *_, cpu, gpu = parse(VALID + CHILD)
    assert [cpu.id, gpu.id] == ["maze-1.0-tf-cpu", "maze-1.0-tf-gpu"]
    assert (gpu.base.image, gpu.base.registry, gpu.base.cuda) == ("rl:coach0.11.0-gpu", None, "9.0")
    assert (gpu.extends, gpu.python, gpu.requirements.as_of) == ("coach-0.11.0-tf-gpu", "3.6", "2019-05-01")
    assert dict(gpu.inventory) == {"gym": "0.10.5", "tensorflow": "1.11.0", "maze": "2.0"}
    assert gpu.requirements.direct == ("maze==2.0",)


def test_a_parent_that_sagemaker_published_is_a_base_in_ecr() -> None:
    published = VALID + "          published: rl-legacy\n" + CHILD
    assert parse(published)[-1].base.registry == "rl-legacy"


def test_a_row_extends_the_cells_of_the_matrix_that_it_names() -> None:
    paths: list[str] = []

    def read_parents(path: str) -> tuple[Cell, ...]:
        paths.append(path)
        return parse(VALID)

    text = f"version: 1\nparents: ../m.yaml\ntoolkits:{CHILD}"
    child = parse_matrix(text, "child.yaml", TABLES, read_parents).cells[0]
    assert (paths, child.extends) == (["../m.yaml"], "coach-0.11.0-tf-cpu")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tf-{processor}\n", "tff-{processor}\n", "there is no cell 'coach-0.11.0-tff-{processor}' to extend, in the rows above or in the parents; did you mean 'coach-0.11.0-tf-cpu'?"),
        ("          repository: maze\n", "          repository: maze\n          base: tf-1\n", "an image has either 'base' or 'extends', not both"),
        ("extends: coach-0.11.0-tf-{processor}\n          ", "", "the key 'base' or 'extends' is missing: it says what the image is built FROM"),
        ("tag: 1.0-{processor}", "tag: fixed", "one tag for several processors: write {processor} where the tags differ"),
        ("tf-{processor}\n", "tf-cpu\n          processors: [gpu]\n", "there is no gpu cell 'coach-0.11.0-tf-cpu', only cpu"),
        ("tf-{processor}\n", "tf-{processor}\n          framework: {name: tf, version: '1'}\n", "the cell 'coach-0.11.0-tf-{processor}' already contains a framework"),
        ("repository: maze\n          tag: 1.0", "repository: rl\n          tag: coach0.11.0", "both have the tag rl:coach0.11.0-cpu"),
    ],
)  # fmt: skip
def test_a_mistake_about_a_parent_is_reported_with_a_remedy(old: str, new: str, expected: str) -> None:
    assert old in CHILD
    assert expected in error_of(VALID + CHILD.replace(old, new))


def test_a_cell_cannot_extend_itself() -> None:
    assert "there is no cell 'maze-1.0-tf-cpu' to extend" in error_of(
        VALID + CHILD.replace("coach-0.11.0-tf-{processor}", "maze-1.0-tf-cpu")
    )


def test_a_syntax_error_is_one_line() -> None:
    assert error_of("a: [1") == "m.yaml:2:1: while parsing a flow sequence did not find expected ',' or ']'"
    assert error_of("").startswith("m.yaml:1:1: ")
    assert error_of("&a [*a]").startswith("m.yaml:1:1: [0]: an alias that contains itself")


def test_the_matrix_has_every_image_that_sagemaker_published(project: Project) -> None:
    published = {cell.id: cell for cell in project.cells if cell.registry}
    assert set(published) == {row["id"] for row in PUBLISHED}
    assert len(published) == 25


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["id"])
def test_a_published_cell_has_the_documented_base(project: Project, row: dict[str, str]) -> None:
    cell = next(cell for cell in project.cells if cell.id == row["id"])
    assert cell.base.image == row["base"]
    assert cell.base.cuda == row["cuda"]
    assert cell.base.os == row["os"]
    assert cell.python == row["python"].split()[0]
    assert (cell.framework.version if cell.framework else None) == row["framework_version"]
    if row["account"]:
        assert project.accounts.account(str(cell.base.registry), "us-west-2") == row["account"]
    documented = dict(row["env"])
    assert {key: cell.env.get(key) for key in documented if key != "PYTHONPATH"} == {
        key: value for key, value in documented.items() if key != "PYTHONPATH"
    }


def test_withdrawn_and_unreleased_versions_are_not_in_the_matrix(project: Project) -> None:
    versions = {(cell.toolkit, cell.version) for cell in project.cells}
    assert not versions.intersection({("ray", "1.0.0"), ("ray", "1.1.0")})
    assert not [cell for cell in project.cells if cell.id == "coach-0.11.1-mxnet-cpu"]


@pytest.mark.parametrize(
    ("cell_id", "python", "cuda", "framework", "gym"),
    [
        ("coach-0.10.1-tf-gpu", "3.6", "9.0", "1.11.0", "0.10.5"),
        ("coach-0.11.0-tf-gpu", "3.6", "9.0", "1.11.0", "0.10.5"),
        ("coach-0.11.0-mxnet-gpu", "3.5", "9.0", "1.3.0", "0.10.5"),
        ("ray-0.5.3-tf-gpu", "3.6", "9.0", "1.11.0", "0.10.5"),
    ],
)
def test_the_documented_table_of_dependencies_holds(
    project: Project, cell_id: str, python: str, cuda: str, framework: str, gym: str
) -> None:
    """The table of the SageMaker RL estimators' documentation; all of them extend Ubuntu 16.04."""
    cell = next(cell for cell in project.cells if cell.id == cell_id)
    assert cell.framework is not None
    assert (cell.python, cell.base.cuda, cell.framework.version) == (python, cuda, framework)
    assert cell.inventory["gym"] == gym
    assert cell.base.os == "ubuntu16.04"


def test_the_page_on_the_matrix_explains_every_key_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/matrix.md").read_text()
    models = [model for model in vars(schema).values() if isinstance(model, type) and issubclass(model, StrictModel)]
    keys = {key for model in models for key in model.model_fields}
    assert not {key for key in keys if not re.search(rf"^## {key}$|[`.{{,]{key}[`.:}},]", page, re.MULTILINE)}
    tables = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `") and "rlimages" not in line]
    rows = {word.split(".")[0] for cell in tables for word in re.findall(r"`([a-z_.]+)", cell)}
    assert not rows - keys
