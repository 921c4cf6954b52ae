import json
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rlimages.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]


def invoke(*arguments: str, root: Path = ROOT) -> Result:
    return CliRunner().invoke(main, ["--matrix", str(root / "build_matrix.yaml"), *arguments])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small project: the real matrix and templates, and nothing generated but one recipe."""
    shutil.copy(ROOT / "build_matrix.yaml", tmp_path)
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    return tmp_path


def test_list_shows_every_cell_once() -> None:
    lines = invoke("list").stdout.splitlines()
    assert len(lines) == 41  # and the column titles
    assert lines[0].split() == ["CELL", "IMAGE", "ALIASES", "BASE"]


def test_list_in_json_has_id_tags_base_dockerfile_and_lock() -> None:
    (cell,) = json.loads(invoke("list", "--json", "--select", "vw-8.7.0-cpu").stdout)
    assert cell == {
        "id": "vw-8.7.0-cpu",
        "repository": "sagemaker-rl-vw-container",
        "tags": ["vw-8.7.0-cpu"],
        "base": "ubuntu:16.04",
        "recipe": "vw/docker/8.7.0/Dockerfile",
        "lock": "vw/lock/vw-8.7.0-cpu.txt",
    }


def test_show_has_the_base_image_of_a_cell() -> None:
    page = invoke("show", "ray-2.60.0-torch-gpu").stdout
    assert "  cuda: 13.0\n" in page
    assert "  base: pytorch-training:2.10.0-gpu-py313-cu130-ubuntu22.04-sagemaker\n" in page


def test_uri_prints_one_line() -> None:
    result = invoke("uri", "--toolkit", "ray", "--version", "1.6.0", "--framework", "torch", "--processor", "gpu", "--region", "us-west-2")  # fmt: skip
    assert result.stdout == (
        "462105765813.dkr.ecr.us-west-2.amazonaws.com/sagemaker-rl-ray-container:ray-1.6.0-torch-gpu-py36\n"
    )


def test_uri_accepts_the_sdks_names_of_frameworks() -> None:
    arguments = ("uri", "--toolkit", "ray", "--version", "1.6.0", "--processor", "gpu")
    assert invoke(*arguments, "--framework", "pytorch").stdout == invoke(*arguments, "--framework", "torch").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list", "--select", "ray-1.6.0-torch-gppu"], 5, "rlimages: no cell matches 'ray-1.6.0-torch-gppu'; did you mean 'ray-1.6.0-torch-gpu'?"),
        (["uri", "--toolkit", "vw", "--processor", "gpu"], 5, "rlimages: no matching image has the toolkit 'vw', only coach, ray"),
        (["lock", "--check", "--select", "nothing"], 5, "rlimages: no cell matches 'nothing'"),
        (["train", "vw:1", "--metric", "m=none"], 2, "rlimages: --metric m: 'none' has no group (…) for the value"),
        (["train", "vw:1", "--instance-count", "0"], 2, "Error: Invalid value for '--instance-count'"),
        (["serve", "vw:1", "--model", "none.tar.gz"], 2, "rlimages: --model none.tar.gz: there is no such archive or folder"),
        (["serve", "vw:1", "--port", "70000"], 2, "Error: Invalid value for '--port'"),
        (["transform", "vw:1", "--input", "src", "--output", "src/out"], 2, "rlimages: --output src/out is inside --input src"),
        (["transform", "vw:1", "--input", "setup.py"], 2, "rlimages: setup.py: unknown file extension; give its type with --content-type"),
        (["invoke", "none.json"], 2, "rlimages: none.json cannot be read: No such file or directory"),
        (["transform", "vw:1", "--input", "none"], 2, "rlimages: --input none: there is no such folder or file"),
        (["invoke", "setup.py"], 2, "setup.py: unknown file extension; give its type with --content-type"),
        (["invoke", "--endpoint", "9", "--content-type", "text/csv", "setup.py"], 1, "rlimages: nothing answers POST /invocations at http://127.0.0.1:9"),
        (["list", "--selct", "x"], 2, "Error: No such option '--selct'"),
        (["plan", "--select", "ray-1.6.0-tf-cpu", "--region", "us-wst-2"], 2, "rlimages: SageMaker publishes no 'deep-learning-containers' images in region 'us-wst-2'; did you mean 'us-west-2'?"),
        (["uri", "--toolkit", "vw", "--region", "eu-west-11"], 2, "did you mean 'eu-west-1'?"),
        (["build", "--select", "vw-*", "--jobs", "0"], 2, "Error: Invalid value for '--jobs'"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_answered_with_a_message_and_an_exit_code(
    arguments: list[str], code: int, message: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_missing_matrix_is_exit_code_2(tmp_path: Path) -> None:
    result = invoke("list", root=tmp_path)
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_all_mistakes_of_a_matrix_are_reported(copy: Path) -> None:
    matrix = copy / "build_matrix.yaml"
    matrix.write_text(matrix.read_text().replace("version: 1\n", "version: 2\n", 1).replace("aliases:", "alias:"))
    result = invoke("list", root=copy)
    assert result.exit_code == 2
    assert all(re.match(r"build_matrix\.yaml:\d+:\d+: .", line) for line in result.stderr.splitlines())
    assert len(result.stderr.splitlines()) == 6


def test_render_check_shows_the_difference_and_exits_with_3(copy: Path) -> None:
    assert invoke("render", root=copy).exit_code == 0
    assert invoke("render", "--check", root=copy).exit_code == 0
    recipe = copy / "ray/docker/2.9.3/Dockerfile.tf"
    recipe.write_text(recipe.read_text().replace("AS os", "AS so"))
    result = invoke("render", "--check", root=copy)
    assert result.exit_code == 3
    assert "-FROM base-${processor} AS so\n+FROM base-${processor} AS os\n" in result.stdout


def test_a_dockerfile_without_a_cell_is_reported_and_removed_by_render(copy: Path) -> None:
    invoke("render", root=copy)
    orphan = copy / "ray/docker/0.0.1/Dockerfile.tf"
    orphan.parent.mkdir()
    shutil.copy(copy / "ray/docker/2.9.3/Dockerfile.tf", orphan)
    by_hand = copy / "ray/docker/0.0.1/Dockerfile.mine"
    by_hand.write_text("FROM scratch\n")
    assert "ray/docker/0.0.1/Dockerfile.tf: belongs to no cell" in invoke("render", "--check", root=copy).stdout
    assert "removed ray/docker/0.0.1/Dockerfile.tf" in invoke("render", root=copy).stdout
    assert not orphan.exists()
    assert by_hand.exists()


def test_render_with_select_writes_only_the_dockerfiles_of_these_cells(copy: Path) -> None:
    result = invoke("render", "--select", "ray-0.8.5-*", root=copy)
    assert result.stdout.splitlines() == [
        "wrote ray/docker/0.8.5/Dockerfile.tf",
        "wrote ray/docker/0.8.5/Dockerfile.torch",
    ]


def test_a_missing_lock_is_exit_code_3(copy: Path) -> None:
    result = invoke("lock", "--check", "--select", "vw-9*", root=copy)
    assert result.exit_code == 3
    assert "vw/lock/vw-9.11.9-cpu-debian.txt: missing; run `rlimages lock" in result.stdout


def test_nothing_is_built_from_an_outdated_dockerfile(copy: Path) -> None:
    result = invoke("build", "--select", "vw-9*", root=copy)
    assert result.exit_code == 3
    assert "is not what the matrix and the templates give; run `rlimages render`" in result.stderr


NAMES = main.list_commands(click.Context(main))


def command_of(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str) -> None:
    assert invoke(name, "--help").exit_code == 0


def test_the_help_lists_every_command_once_in_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = CliRunner().invoke(main, ["--help"]).stdout
    groups = page[page.index("\nBuild:\n") : page.index("Exit codes:")]
    assert re.findall(r"^(\S.*):$", groups, re.MULTILINE) == list(COMMANDS)
    listed = re.findall(r"^  (\S+)  +(.+)$", groups, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(NAMES)
    # click shortens what does not fit into the line
    assert {name: text for name, text in listed if text.endswith("...")} == {}
    assert {name: text for name, text in listed if text != (command_of(name).help or "").partition("\n")[0]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_of_a_commands_help_is_a_short_sentence(name: str) -> None:
    line = (command_of(name).help or "").partition("\n")[0]
    assert line.endswith(".")
    assert len(line) <= 60


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_help_text(name: str) -> None:
    options = [option for option in command_of(name).params if isinstance(option, click.Option)]
    assert [option.name for option in options if not (option.help or "").endswith(".")] == []


def commands_in(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("rlimages ")]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_the_commands_in_the_documentation_can_be_parsed(page: Path) -> None:
    import shlex

    for line in commands_in(page):
        arguments = shlex.split(line)[1:]
        arguments = arguments[2:] if arguments[0] == "--matrix" else arguments
        command = main.get_command(click.Context(main), arguments[0])
        assert command is not None
        with command.make_context(arguments[0], arguments[1:]):
            pass  # click raises an error for an unknown option or a wrong value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--disk-floor", "5X"), "--disk-floor '5X' is not a size; write it as 5GB, 500MB or 20GiB"),
        (("--cache-from", "https://r"), "--cache-from 'https://r': write it as host[:port][/prefix], without tag"),
    ],
)
def test_a_wrong_option_value_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = invoke("plan", "--select", "vw-9.11.9-cpu-debian", "--commands", *arguments)
    assert (result.exit_code, result.stderr) == (2, f"rlimages: {message}\n")
