"""Promote images with the command line from a pre-production to a production target, in one registry and between two."""

import json
import os
import subprocess
import time

import httpx
import pytest
from tiny_project import CELL, REPOSITORY, TEMPLATE, rlimages, write_project

from rlimages.registry.client import RegistryClient


@pytest.fixture
def project(tmp_path, upstream, registry):
    """A project with one tiny cell and three targets; the cell is built."""
    root = tmp_path / "project"
    stamp = f"promotion-{os.getpid()}-{time.time_ns()}"
    write_project(
        root,
        {
            "pre-production": {"registry": f"{upstream}/{stamp}-test", "accept": []},
            "production": {"registry": f"{upstream}/{stamp}", "accept": [], "promote_from": "pre-production"},
            "elsewhere": {"registry": f"{registry}/{stamp}", "accept": [], "promote_from": "pre-production"},
        },
    )
    return root, stamp


@pytest.fixture
def published(project):
    root, stamp = project
    result = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert result.returncode == 0, result.stderr + result.stdout
    return root, stamp


def read_manifest(host: str, repository: str, tag: str):
    with RegistryClient(host) as registry:
        return registry.read_manifest(repository, tag)


def test_a_promoted_image_is_byte_for_byte_the_tested_one(published, upstream, registry) -> None:
    root, stamp = published
    tested = read_manifest(upstream, f"{stamp}-test/{REPOSITORY}", "tiny-1.0-cpu")
    for target, host in (("production", upstream), ("elsewhere", registry)):
        result = rlimages(root, "promote", "--target", target, "--select", CELL)
        assert result.returncode == 0, result.stderr + result.stdout
        for tag in ("tiny-1.0-cpu", "tiny-cpu"):
            assert read_manifest(host, f"{stamp}/{REPOSITORY}", tag).content == tested.content


def test_layers_are_mounted_within_one_registry(published) -> None:
    root, _ = published
    result = rlimages(root, "promote", "--target", "production", "--select", CELL)
    # the two blobs are the pass record of the image and the empty configuration of that record
    assert "2 blobs (0 MB) sent" in result.stdout


def test_the_pass_record_is_promoted_with_the_image(published, upstream) -> None:
    root, stamp = published
    rlimages(root, "promote", "--target", "production", "--select", CELL)
    with RegistryClient(upstream) as client:
        (tag,) = [tag for tag in client.list_tags(f"{stamp}/{REPOSITORY}") if tag.startswith("smoke-")]
        record = json.loads(
            client.read_blob(
                f"{stamp}/{REPOSITORY}", client.read_manifest(f"{stamp}/{REPOSITORY}", tag).layers[0].digest
            )
        )
    assert record["checks"] == {"good": "passed"}
    assert record["image"] == read_manifest(upstream, f"{stamp}/{REPOSITORY}", "tiny-1.0-cpu").image


def test_the_pass_record_in_the_registry_is_used_without_a_local_one(published) -> None:
    root, _ = published
    for path in (root / ".rlimages/passes").iterdir():
        path.unlink()
    assert rlimages(root, "promote", "--target", "production", "--select", CELL).returncode == 0


def test_a_changed_check_invalidates_the_pass_record(published, upstream) -> None:
    root, stamp = published
    (root / "templates/smoke/check_good.py").write_text("echo better; exit 0\n")
    result = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert result.returncode == 7
    assert "no recorded PASS" in result.stderr
    assert read_manifest(upstream, f"{stamp}/{REPOSITORY}", "tiny-1.0-cpu") is None


def test_an_unpublished_image_is_not_promoted(project) -> None:
    root, _ = project
    result = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert result.returncode == 7
    assert "does not exist; publish" in result.stderr


def test_nothing_is_published_to_a_target_if_a_cell_fails(project, upstream) -> None:
    root, stamp = project
    (root / "templates/smoke/check_good.py").write_text("echo bad; exit 1\n")
    result = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert result.returncode == 1
    assert read_manifest(upstream, f"{stamp}-test/{REPOSITORY}", "tiny-1.0-cpu") is None


def test_a_release_is_rolled_back_by_its_name(published, upstream) -> None:
    root, stamp = published
    first = read_manifest(upstream, f"{stamp}-test/{REPOSITORY}", "tiny-cpu")
    (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{time.time_ns()}"))
    rlimages(root, "render")
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["floating"] = ["*"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    assert rlimages(root, "run", "--select", CELL, "--target", "pre-production").returncode == 0
    assert read_manifest(upstream, f"{stamp}-test/{REPOSITORY}", "tiny-cpu").digest != first.digest
    result = rlimages(root, "publish", "--rollback")
    assert result.returncode == 0, result.stderr + result.stdout
    for tag in ("tiny-1.0-cpu", "tiny-cpu"):
        assert read_manifest(upstream, f"{stamp}-test/{REPOSITORY}", tag).digest == first.digest


def test_an_image_that_fails_acceptance_is_not_pushed(project, upstream) -> None:
    root, stamp = project
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["accept"] = ["sagemaker-training"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    result = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert result.returncode == 8
    assert "sagemaker-training refuses it: programs" in result.stderr
    with RegistryClient(upstream) as client:
        assert client.list_tags(f"{stamp}-test/{REPOSITORY}") == ()


def test_an_image_that_fails_the_acceptance_of_production_is_not_promoted(published, upstream) -> None:
    root, stamp = published
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["production"]["accept"] = ["sagemaker-training"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    result = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert result.returncode == 8, result.stdout + result.stderr
    assert "there is no `train` on PATH" in result.stderr
    assert read_manifest(upstream, f"{stamp}/{REPOSITORY}", "tiny-1.0-cpu") is None
    targets["targets"]["pre-production"]["accept"] = ["sagemaker-training"]  # pre-production requires the profile too
    (root / "targets.yaml").write_text(json.dumps(targets))
    assert rlimages(root, "promote", "--target", "production", "--select", CELL).returncode == 0


def test_nothing_is_pushed_if_the_packed_image_is_too_large(project, upstream) -> None:
    root, stamp = project
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["accept"] = ["small"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    rules = {"as_of": "2026-11-21", "extends": "sagemaker-training", "programs": {"train": None}}
    labels = dict.fromkeys(("org.opencontainers.image.title", "org.opencontainers.image.version"))

    def publish(limit: str) -> subprocess.CompletedProcess[str]:
        profiles = {"version": 1, "profiles": {"small": {**rules, "labels": labels, "compressed": limit}}}
        (root / "acceptance.yaml").write_text(json.dumps(profiles))
        return rlimages(root, "run", "--select", CELL, "--target", "pre-production")

    def repositories() -> list[str]:
        return httpx.get(f"http://{upstream}/v2/_catalog?n=1000", trust_env=False).json()["repositories"]

    result = publish("1 MiB")
    assert result.returncode == 8, result.stdout + result.stderr
    assert f"{CELL}: small refuses it: compressed-size: the compressed layers have" in result.stderr
    assert f"{stamp}-test/{REPOSITORY}" not in repositories()
    assert not (root / ".rlimages/releases").exists()
    result = publish("1 GiB")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{stamp}-test/{REPOSITORY}" in repositories()
