from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.errors import FactoryError, SelectionError
from rlimages.matrix.uri import ImageQuery, find_cell, registry_host
from rlimages.project.project import Project

PUBLISHED = [
    line.split()
    for line in (Path(__file__).with_name("published.txt")).read_text().splitlines()
    if not line.startswith("#")
]


def find_id(project: Project, *, version: str | None, framework: str | None = None, toolkit: str = "coach") -> str:
    query = ImageQuery(toolkit=toolkit, version=version, framework=framework, processor="cpu", line="sagemaker")
    return find_cell(project.cells, query).id


def test_every_published_image_has_its_address_in_every_region(project: Project) -> None:
    expected = {row[5] for row in PUBLISHED}
    found = set()
    for cell in project.cells:
        for region in project.accounts.tables.get(cell.registry or "", {}):
            host = registry_host(cell, project.accounts, region=region, account=None, registry=None)
            found.update(f"{host}/{cell.repository}:{tag}" for tag in cell.tags)
    assert len(expected) == len(PUBLISHED) == 719  # 706 that the SDK can ask RLEstimator for, and 13 of VW
    assert found == expected


def test_a_query_for_a_published_image_finds_its_address(project: Project) -> None:
    addresses = {tuple(row[:5]): row[5] for row in reversed(PUBLISHED)}  # the versioned tag comes first in the file
    for (toolkit, version, framework, processor, region), expected in addresses.items():
        name = None if framework == "-" else framework
        query = ImageQuery(toolkit=toolkit, version=version, framework=name, processor=processor, line="sagemaker")
        cell = find_cell(project.cells, query)
        host = registry_host(cell, project.accounts, region=region, account=None, registry=None)
        assert f"{host}/{cell.local_name}" == expected


@pytest.mark.parametrize(
    ("version", "framework", "expected"),
    [
        ("0.11", "tf", "coach-0.11.1-tf-cpu"),
        ("0.11", "mxnet", "coach-0.11.0-mxnet-cpu"),
        ("0.10", None, "coach-0.10.1-tf-cpu"),
        ("0.11.0", "tf", "coach-0.11.0-tf-cpu"),
        (None, "tf", "coach-1.0.0-tf-cpu"),
    ],
)
def test_a_minor_version_means_its_newest_patch(
    project: Project, version: str | None, framework: str | None, expected: str
) -> None:
    assert find_id(project, version=version, framework=framework) == expected


def test_a_version_is_compared_by_numbers_not_as_text(project: Project) -> None:
    with pytest.raises(SelectionError, match=r"no matching image has the version '0\.1'"):
        find_id(project, version="0.1")


def test_without_a_version_only_published_images_are_found_in_sagemakers_accounts(project: Project) -> None:
    query = ImageQuery(toolkit="ray", version=None, framework="tf", processor="cpu", line="sagemaker", published=True)
    assert find_cell(project.cells, query).id == "ray-1.6.0-tf-cpu"
    assert find_cell(project.cells, replace(query, published=False)).id == "ray-2.9.3-tf-cpu"


def test_a_query_that_matches_several_frameworks_is_an_error(project: Project) -> None:
    with pytest.raises(SelectionError, match="exists for tf, torch; choose one with --framework"):
        find_id(project, version="1.6.0", toolkit="ray")


def test_a_misspelt_toolkit_gets_a_suggestion(project: Project) -> None:
    with pytest.raises(SelectionError, match="did you mean 'coach'"):
        find_id(project, version=None, toolkit="coch")


def test_an_image_that_was_never_published_needs_an_account(project: Project) -> None:
    cell = next(cell for cell in project.cells if cell.id == "ray-2.9.3-tf-cpu")
    with pytest.raises(SelectionError, match="give --account or --registry"):
        registry_host(cell, project.accounts, region="us-west-2", account=None, registry=None)
    host = registry_host(cell, project.accounts, region="cn-north-1", account="123456789012", registry=None)
    assert host == "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
    assert (
        registry_host(cell, project.accounts, region="x", account=None, registry="localhost:5000/a")
        == "localhost:5000/a"
    )


def test_a_region_without_images_is_named(project: Project) -> None:
    cell = next(cell for cell in project.cells if cell.id == "ray-1.6.0-tf-cpu")
    with pytest.raises(FactoryError, match="no 'rl-container' images in region 'eu-north-1'"):
        registry_host(cell, project.accounts, region="eu-north-1", account=None, registry=None)


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-northwest-1", "amazonaws.com.cn"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
        ("us-isof-south-1", "csp.hci.ic.gov"),
        ("eu-isoe-west-1", "cloud.adc-e.uk"),
    ],
)
def test_every_partition_has_its_domain(project: Project, region: str, domain: str) -> None:
    assert project.accounts.domain(region) == domain
