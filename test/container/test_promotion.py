"""From a pre-production target to a production one, in one registry and between two, by the command line."""

import json
import os
import subprocess
import time

import httpx
import pytest
from tiny_project import CELL, TEMPLATE, rlimages, write

from rlimages.registry.client import RegistryClient


@pytest.fixture
def project(tmp_path, upstream, registry):
    """A project with one tiny cell and three targets; the cell is built."""
    root = tmp_path / "project"
    stamp = f"promotion-{os.getpid()}-{time.time_ns()}"
    write(
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
    ended = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return root, stamp


def held(host: str, repository: str, tag: str):
    with RegistryClient(host) as registry:
        return registry.read_manifest(repository, tag)


def test_a_promoted_image_is_byte_for_byte_the_tested_one(published, upstream, registry) -> None:
    root, stamp = published
    tested = held(upstream, f"{stamp}-test/tiny", "tiny-1.0-cpu")
    for target, host in (("production", upstream), ("elsewhere", registry)):
        ended = rlimages(root, "promote", "--target", target, "--select", CELL)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        for tag in ("tiny-1.0-cpu", "tiny-cpu"):
            assert held(host, f"{stamp}/tiny", tag).content == tested.content


def test_within_one_registry_layers_are_mounted_and_not_sent(published) -> None:
    root, _ = published
    ended = rlimages(root, "promote", "--target", "production", "--select", CELL)
    # what travels is the record of its checks, and the empty configuration of that record
    assert "2 blobs (0 MB) sent" in ended.stdout


def test_the_record_of_its_checks_goes_with_it(published, upstream) -> None:
    root, stamp = published
    rlimages(root, "promote", "--target", "production", "--select", CELL)
    with RegistryClient(upstream) as there:
        (tag,) = [tag for tag in there.list_tags(f"{stamp}/tiny") if tag.startswith("smoke-")]
        record = json.loads(there.read_blob(f"{stamp}/tiny", there.read_manifest(f"{stamp}/tiny", tag).layers[0].digest))
    assert record["checks"] == {"good": "passed"}
    assert record["image"] == held(upstream, f"{stamp}/tiny", "tiny-1.0-cpu").image


def test_a_record_beside_the_image_serves_a_machine_that_has_none(published) -> None:
    root, _ = published
    for path in (root / ".rlimages/passes").iterdir():
        path.unlink()
    assert rlimages(root, "promote", "--target", "production", "--select", CELL).returncode == 0


def test_one_changed_check_makes_the_pass_stale(published, upstream) -> None:
    root, stamp = published
    (root / "templates/smoke/check_good.py").write_text("echo better; exit 0\n")
    ended = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert ended.returncode == 7
    assert "no recorded PASS" in ended.stderr
    assert held(upstream, f"{stamp}/tiny", "tiny-1.0-cpu") is None


def test_what_was_never_published_is_not_promoted(project) -> None:
    root, _ = project
    ended = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert ended.returncode == 7
    assert "does not exist; publish" in ended.stderr


def test_one_cell_that_fails_holds_back_a_target(project, upstream) -> None:
    root, stamp = project
    (root / "templates/smoke/check_good.py").write_text("echo bad; exit 1\n")
    ended = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert ended.returncode == 1
    assert held(upstream, f"{stamp}-test/tiny", "tiny-1.0-cpu") is None


def test_a_release_is_rolled_back_by_its_name(published, upstream) -> None:
    root, stamp = published
    first = held(upstream, f"{stamp}-test/tiny", "tiny-cpu")
    (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{time.time_ns()}"))
    rlimages(root, "render")
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["floating"] = ["*"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    assert rlimages(root, "run", "--select", CELL, "--target", "pre-production").returncode == 0
    assert held(upstream, f"{stamp}-test/tiny", "tiny-cpu").digest != first.digest
    ended = rlimages(root, "publish", "--rollback")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    for tag in ("tiny-1.0-cpu", "tiny-cpu"):
        assert held(upstream, f"{stamp}-test/tiny", tag).digest == first.digest


def test_what_the_gate_refuses_is_not_sent(project, upstream) -> None:
    root, stamp = project
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["accept"] = ["sagemaker-training"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    ended = rlimages(root, "run", "--select", CELL, "--target", "pre-production")
    assert ended.returncode == 8
    assert "sagemaker-training refuses it: programs" in ended.stderr
    with RegistryClient(upstream) as there:
        assert there.list_tags(f"{stamp}-test/tiny") == ()


def test_what_only_production_refuses_is_not_promoted(published, upstream) -> None:
    root, stamp = published
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["production"]["accept"] = ["sagemaker-training"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    ended = rlimages(root, "promote", "--target", "production", "--select", CELL)
    assert ended.returncode == 8, ended.stdout + ended.stderr
    assert "no `train` is on PATH" in ended.stderr
    assert held(upstream, f"{stamp}/tiny", "tiny-1.0-cpu") is None
    targets["targets"]["pre-production"]["accept"] = ["sagemaker-training"]  # as if it had been asked for there
    (root / "targets.yaml").write_text(json.dumps(targets))
    assert rlimages(root, "promote", "--target", "production", "--select", CELL).returncode == 0


def test_an_image_that_is_too_large_when_packed_changes_nothing_at_the_registry(project, upstream) -> None:
    root, stamp = project
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["pre-production"]["accept"] = ["small"]
    (root / "targets.yaml").write_text(json.dumps(targets))
    rules = {"as_of": "2026-11-21", "extends": "sagemaker-training", "programs": {"train": None}}
    labels = dict.fromkeys(("org.opencontainers.image.title", "org.opencontainers.image.version"))

    def publish(limit: str) -> subprocess.CompletedProcess[str]:
        told = {"version": 1, "profiles": {"small": {**rules, "labels": labels, "compressed": limit}}}
        (root / "acceptance.yaml").write_text(json.dumps(told))
        return rlimages(root, "run", "--select", CELL, "--target", "pre-production")

    def repositories() -> list[str]:
        return httpx.get(f"http://{upstream}/v2/_catalog?n=1000", trust_env=False).json()["repositories"]

    ended = publish("1 MiB")
    assert ended.returncode == 8, ended.stdout + ended.stderr
    assert f"{CELL}: small refuses it: compressed-size: the compressed layers have" in ended.stderr
    assert f"{stamp}-test/tiny" not in repositories()
    assert not (root / ".rlimages/releases").exists()
    ended = publish("1 GiB")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{stamp}-test/tiny" in repositories()
