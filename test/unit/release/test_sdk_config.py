import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlimages.cli.main import main
from rlimages.errors import UsageError
from rlimages.matrix.cell import Cell
from rlimages.project.project import Project
from rlimages.release.sdk_config import config_files

ROOT = Path(__file__).resolve().parents[3]
FRAMEWORKS = {"tf": "tensorflow", "torch": "pytorch", "mxnet": "mxnet"}
HERE = {"us-west-2": "123456789012"}


def invoke(*arguments: str, matrix: Path = ROOT / "build_matrix.yaml") -> Result:
    return CliRunner().invoke(main, ["--matrix", str(matrix), "sdk-config", *arguments])


def addresses(name: str, config: dict) -> set[tuple[str, str, str, str, str]]:
    """File, version, processor, region, and the address that the SDK composes."""
    return {
        (name, version, processor, region, f"{account}/{entry['repository']}:{'-'.join(filter(None, parts))}")
        for version, entry in config["versions"].items()
        for processor in config.get("processors") or entry["processors"]
        for parts in [[
            entry["tag_prefix"],
            processor,
            *entry.get("py_versions", []),
            entry.get("container_version", {}).get(processor),
        ]]
        for region, account in entry["registries"].items()
    }  # fmt: skip


def test_every_image_that_sagemaker_published_has_its_address() -> None:
    lines = (ROOT / "test/unit/matrix/published.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    expected = {row[5].replace(f".dkr.ecr.{row[4]}.", " ").split()[0] + "/" + row[5].partition("/")[2] for row in rows}
    files = json.loads(invoke().stdout)
    found = [address for name, config in files.items() for address in addresses(name, config)]
    assert {address for *_, address in found} == expected
    assert len({address[:4] for address in found}) == len(found) == len(rows)


def test_the_files_have_the_names_that_the_sdk_has_for_toolkits() -> None:
    assert list(json.loads(invoke().stdout)) == [
        "coach-mxnet.json", "coach-tensorflow.json", "ray-pytorch.json", "ray-tensorflow.json", "vw.json",
    ]  # fmt: skip


def test_the_sdk_finds_every_image_of_the_matrix(project: Project) -> None:
    files = json.loads(invoke("--account", "123456789012", "--region", "eu-west-1").stdout)
    found = {address for name, config in files.items() for *_, address in addresses(name, config)}
    assert found == {f"123456789012/{cell.repository}:{tag}" for cell in project.cells for tag in cell.tags}


def test_versions_of_another_line_have_its_name_unless_it_is_chosen(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.id.startswith("ray-2.9.3-tf-cpu")]
    config = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["ray-tensorflow.json"]
    assert list(config["versions"]) == ["2.9.3", "2.9.3-debian"]
    assert config["versions"]["2.9.3-debian"]["container_version"] == {"cpu": "debian12"}
    chosen = config_files(cells, FRAMEWORKS, lambda _cell: HERE, line="debian")["ray-tensorflow.json"]
    assert list(chosen["versions"]) == ["2.9.3-sagemaker", "2.9.3"]


def test_a_version_without_a_gpu_image_does_not_list_gpu(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.id.startswith("ray-2.9.3-tf")]
    config = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["ray-tensorflow.json"]
    assert "processors" not in config
    assert config["versions"]["2.9.3"]["processors"] == ["cpu", "gpu"]
    assert config["versions"]["2.9.3-debian"]["processors"] == ["cpu"]


def test_an_alias_that_contains_a_version_is_a_version_too(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.framework and cell.framework.name == "mxnet"]
    config = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["coach-mxnet.json"]
    assert list(config["versions"]) == ["0.11.0", "0.11", "0.11.0-debian"]


def test_a_tag_that_the_sdk_can_not_compose_is_an_error(cell: Cell) -> None:
    unusual = replace(cell, tag="nightly")
    with pytest.raises(UsageError, match=r"can't form the tag 'nightly'(.|\n)*leave these cells out with --select"):
        config_files([unusual], FRAMEWORKS, lambda _cell: HERE)


def test_a_target_defines_account_regions_and_prefix(tmp_path: Path) -> None:
    matrix = tmp_path / "build_matrix.yaml"
    matrix.write_text((ROOT / "build_matrix.yaml").read_text())
    ecr = {"regions": ["us-west-2", "cn-north-1"], "account": "210987654321"}
    targets = {"own": {"ecr": ecr, "prefix": "rl"}, "near": {"registry": "127.0.0.1:5000"}}
    (tmp_path / "targets.yaml").write_text(json.dumps({"version": 1, "targets": targets}))
    result = invoke("--target", "own", "--select", "vw-8*", "--output", str(tmp_path / "sdk"), matrix=matrix)
    assert result.stdout == f"wrote {tmp_path / 'sdk/vw.json'}\n"
    entry = json.loads((tmp_path / "sdk/vw.json").read_text())["versions"]["8.7.0"]
    assert entry == {
        "registries": {"cn-north-1": "210987654321", "us-west-2": "210987654321"},
        "repository": "rl/sagemaker-rl-vw-container",
        "tag_prefix": "vw-8.7.0",
    }
    refused = invoke("--target", "near", matrix=matrix)
    assert refused.exit_code == 2
    assert "target 'near' is a registry of another kind" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--account", "1234"], 2, "--account 1234: an AWS account has twelve digits"),
        (["--region", "eu-west-1"], 2, "--region needs --account"),
        (["--account", "123456789012", "--region", "Ireland"], 2, "--region Ireland: this is no region of AWS"),
        (["--target", "a", "--account", "123456789012"], 2, "give --target alone"),
        (["--select", "*-debian"], 5, "SageMaker published none of these"),
    ],
)
def test_wrong_arguments_are_an_error_with_a_message(arguments: list[str], code: int, message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
