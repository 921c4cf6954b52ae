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


def say(*words: str, matrix: Path = ROOT / "build_matrix.yaml") -> Result:
    return CliRunner().invoke(main, ["--matrix", str(matrix), "sdk-config", *words])


def addresses(name: str, told: dict) -> set[tuple[str, str, str, str, str]]:
    """File, version, processor, region, and the address as the SDK puts it together."""
    return {
        (name, version, processor, region, f"{account}/{entry['repository']}:{'-'.join(filter(None, parts))}")
        for version, entry in told["versions"].items()
        for processor in told.get("processors") or entry["processors"]
        for parts in [[
            entry["tag_prefix"],
            processor,
            *entry.get("py_versions", []),
            entry.get("container_version", {}).get(processor),
        ]]
        for region, account in entry["registries"].items()
    }  # fmt: skip


def test_of_what_was_published_every_image_has_its_address() -> None:
    lines = (ROOT / "test/unit/matrix/published.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    expected = {row[5].replace(f".dkr.ecr.{row[4]}.", " ").split()[0] + "/" + row[5].partition("/")[2] for row in rows}
    told = json.loads(say().stdout)
    found = [address for name, said in told.items() for address in addresses(name, said)]
    assert {address for *_, address in found} == expected
    assert len({address[:4] for address in found}) == len(found) == len(rows)


def test_its_files_are_called_as_the_sdk_calls_toolkits() -> None:
    assert list(json.loads(say().stdout)) == [
        "coach-mxnet.json", "coach-tensorflow.json", "ray-pytorch.json", "ray-tensorflow.json", "vw.json",
    ]  # fmt: skip


def test_every_image_of_the_matrix_can_be_asked_for(project: Project) -> None:
    told = json.loads(say("--account", "123456789012", "--region", "eu-west-1").stdout)
    found = {address for name, said in told.items() for *_, address in addresses(name, said)}
    assert found == {f"123456789012/{cell.repository}:{tag}" for cell in project.cells for tag in cell.tags}


def test_another_line_is_called_by_its_name_unless_it_is_chosen(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.id.startswith("ray-2.9.3-tf-cpu")]
    said = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["ray-tensorflow.json"]
    assert list(said["versions"]) == ["2.9.3", "2.9.3-debian"]
    assert said["versions"]["2.9.3-debian"]["container_version"] == {"cpu": "debian12"}
    chosen = config_files(cells, FRAMEWORKS, lambda _cell: HERE, line="debian")["ray-tensorflow.json"]
    assert list(chosen["versions"]) == ["2.9.3-sagemaker", "2.9.3"]


def test_a_version_without_a_gpu_image_can_not_be_asked_for_one(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.id.startswith("ray-2.9.3-tf")]
    said = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["ray-tensorflow.json"]
    assert "processors" not in said
    assert said["versions"]["2.9.3"]["processors"] == ["cpu", "gpu"]
    assert said["versions"]["2.9.3-debian"]["processors"] == ["cpu"]


def test_a_minor_version_is_what_its_alias_is(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.framework and cell.framework.name == "mxnet"]
    said = config_files(cells, FRAMEWORKS, lambda _cell: HERE)["coach-mxnet.json"]
    assert list(said["versions"]) == ["0.11.0", "0.11", "0.11.0-debian"]


def test_a_tag_that_the_sdk_can_not_form_is_named(cell: Cell) -> None:
    odd = replace(cell, tag="nightly")
    with pytest.raises(UsageError, match=r"can't form the tag 'nightly'(.|\n)*leave these cells out with --select"):
        config_files([odd], FRAMEWORKS, lambda _cell: HERE)


def test_a_target_gives_its_account_regions_and_prefix(tmp_path: Path) -> None:
    matrix = tmp_path / "build_matrix.yaml"
    matrix.write_text((ROOT / "build_matrix.yaml").read_text())
    ecr = {"regions": ["us-west-2", "cn-north-1"], "account": "210987654321"}
    targets = {"own": {"ecr": ecr, "prefix": "rl"}, "near": {"registry": "127.0.0.1:5000"}}
    (tmp_path / "targets.yaml").write_text(json.dumps({"version": 1, "targets": targets}))
    told = say("--target", "own", "--select", "vw-8*", "--output", str(tmp_path / "sdk"), matrix=matrix)
    assert told.stdout == f"wrote {tmp_path / 'sdk/vw.json'}\n"
    entry = json.loads((tmp_path / "sdk/vw.json").read_text())["versions"]["8.7.0"]
    assert entry == {
        "registries": {"cn-north-1": "210987654321", "us-west-2": "210987654321"},
        "repository": "rl/sagemaker-rl-vw-container",
        "tag_prefix": "vw-8.7.0",
    }
    refused = say("--target", "near", matrix=matrix)
    assert refused.exit_code == 2
    assert "target 'near' is a registry of another kind" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--account", "1234"], 2, "--account 1234: an AWS account has twelve digits"),
        (["--region", "eu-west-1"], 2, "--region is for --account"),
        (["--account", "123456789012", "--region", "Ireland"], 2, "--region Ireland: this is no region of AWS"),
        (["--target", "a", "--account", "123456789012"], 2, "give --target alone"),
        (["--select", "*-debian"], 5, "SageMaker published none of these"),
    ],
)
def test_bad_words_are_answered_with_a_sentence(words: list[str], code: int, sentence: str) -> None:
    result = say(*words)
    assert result.exit_code == code
    assert sentence in result.stderr
