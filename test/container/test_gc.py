"""What `gc` shows and deletes: in ECR, by its control plane on loopback, and in a plain registry."""

import json
import os
import ssl
import subprocess
import time
from contextlib import suppress

import boto3
import httpx
import pytest
from aws import ACCOUNT, PASSWORD, REGIONS, Cloud, host
from tiny_project import CELL, TEMPLATE, rlimages, write

from rlimages.oci.manifest import sha256_digest
from rlimages.registry.client import RegistryClient
from rlimages.supplychain.cosign import SignedImage
from rlimages.supplychain.signing import Cosign, SigningKey
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

TYPES = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
REGION, PREFIX = REGIONS[0], "gc"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


class Account:
    """One region of the account: what was pushed to its registry is told to its control plane too."""

    def __init__(self, cloud: Cloud, prefix: str) -> None:
        self.repository, self.signatures = f"{prefix}/tiny", f"{prefix}/tiny-signatures"
        self.production = f"{prefix}-production/tiny"
        self._registry = httpx.Client(
            base_url=f"https://{host(REGION)}/v2/{self.repository}/",
            proxy=cloud.environ["HTTPS_PROXY"],
            verify=ssl.create_default_context(cafile=str(cloud.folder / "ca.pem")),
            auth=("AWS", PASSWORD),
            headers={"accept": ", ".join(TYPES)},
        )
        self._ecr = boto3.client(
            "ecr", region_name=REGION, endpoint_url=cloud.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def pushed(self) -> list[str]:
        return list(self._registry.get("tags/list").json()["tags"])

    def mirror(self, reference: str, tag: str, repository: str = "") -> None:
        answer = self._registry.get(f"manifests/{reference}")
        self.put(repository or self.repository, tag, answer.text, answer.headers["content-type"])

    def put(self, repository: str, tag: str, content: str, kind: str) -> None:
        with suppress(self._ecr.exceptions.RepositoryAlreadyExistsException):
            self._ecr.create_repository(repositoryName=repository, imageTagMutability="MUTABLE")
        self._ecr.put_image(
            repositoryName=repository, imageTag=tag, imageManifest=content, imageManifestMediaType=kind,
            imageDigest=sha256_digest(content.encode()),
        )  # fmt: skip

    def sign(self, signed: str) -> str:
        """What stands for a signature: a manifest of its own under cosign's tag."""
        tag = f"{signed.replace(':', '-')}.sig"
        words = {"schemaVersion": 2, "mediaType": TYPES[1], "config": EMPTY, "layers": [], "annotations": {"of": tag}}
        self.put(self.signatures, tag, json.dumps(words), TYPES[1])
        return tag

    def tags(self, repository: str) -> set[str]:
        return {image.get("imageTag", "") for image in self._ecr.list_images(repositoryName=repository)["imageIds"]}

    def digests(self, repository: str) -> set[str]:
        return {image["imageDigest"] for image in self._ecr.list_images(repositoryName=repository)["imageIds"]}

    def clear(self) -> None:
        for repository in (self.repository, self.signatures, self.production):
            with suppress(self._ecr.exceptions.RepositoryNotFoundException):
                self._ecr.delete_repository(repositoryName=repository, force=True)

    def close(self) -> None:
        self._registry.close()


@pytest.fixture(scope="module")
def released(client, cloud, tmp_path_factory):
    """A project that released two images to ECR under the same tags: its folder, release -> digest, its targets."""
    root = tmp_path_factory.mktemp("gc") / "project"
    ecr = {"regions": [REGION], "account": ACCOUNT}
    pre = {"ecr": ecr, "prefix": PREFIX, "accept": [], "floating": ["*"]}
    write(root, {"pre": pre, "production": {"ecr": ecr, "prefix": f"{PREFIX}-production", "promote_from": "pre"}})
    digests = {}
    for turn in range(2):
        (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{turn}-{time.time_ns()}"))
        assert rlimages(root, "render").returncode == 0
        ended = rlimages(root, "run", "--select", CELL, "--target", "pre", env=cloud.environ)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (release,) = sorted((root / ".rlimages/releases").iterdir())[turn:]
        journal = [json.loads(line) for line in (release / "journal.jsonl").read_text().splitlines()]
        (digests[release.name],) = {entry["digest"] for entry in journal if entry["event"] == "staged"}
    return root, digests, (root / "targets.yaml").read_text()


@pytest.fixture
def estate(released, cloud):
    """Each release left its tag behind: the project, the account, the older digest and the newer."""
    root, digests, targets = released
    (root / "targets.yaml").write_text(targets)
    account = Account(cloud, PREFIX)
    account.clear()
    for release, brought in digests.items():
        account.mirror(brought, f"rlimages-run-{release}-{CELL}")
    for tag in account.pushed():
        if not tag.startswith("rlimages-run-"):
            account.mirror(tag, tag)
    yield root, account, tuple(digests.values())
    account.close()


def gc(root, cloud, *words: str):
    return rlimages(root, "gc", "--target", *words, env=cloud.environ)


def test_a_dry_run_says_what_would_go_and_changes_nothing(estate, cloud) -> None:
    root, account, (old, new) = estate
    account.sign(old)
    before = account.digests(account.repository), account.tags(account.signatures)
    ended = gc(root, cloud, "pre", "--older-than", "0h")
    assert ended.returncode == 0, ended.stderr
    assert f"would be deleted: image {host(REGION)}/{account.repository}@{old} (rlimages-run-" in ended.stdout
    assert f"@{new} (rlimages-run-" in ended.stdout
    assert "its release is over" in ended.stdout
    assert ended.stdout.endswith("4 would be deleted, 2 kept; --delete deletes them\n")
    assert (account.digests(account.repository), account.tags(account.signatures)) == before


def test_an_old_image_goes_with_its_record_and_signature_and_the_new_one_keeps_its_own(estate, cloud) -> None:
    root, account, (old, new) = estate
    account.sign(old)
    kept = account.sign(new)
    ended = gc(root, cloud, "pre", "--older-than", "0h", "--delete")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("4 deleted, 3 kept\n")
    assert old not in account.digests(account.repository)
    assert {tag.partition("-")[0] for tag in account.tags(account.repository)} == {"build", "smoke", "tiny"}
    assert len(account.tags(account.repository)) == 4  # two of the matrix, what it was made from, and one record
    assert account.tags(account.signatures) == {kept}
    assert gc(root, cloud, "pre", "--older-than", "0h", "--delete").stdout.startswith("0 deleted")


def test_what_a_young_release_may_need_for_going_back_stays(estate, cloud) -> None:
    root, account, (old, new) = estate
    ended = gc(root, cloud, "pre", "--older-than", "1h", "--delete")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert account.digests(account.repository) >= {old, new}
    told = json.loads(gc(root, cloud, "pre", "--older-than", "1h", "--json").stdout)
    (why,) = [fate["why"] for fate in told if fate["digest"] == old and fate["kind"] == "image"]
    assert why.endswith("can be rolled back")


def test_what_production_holds_stays_also_where_it_was_promoted_from(estate, cloud) -> None:
    root, account, (old, _) = estate
    account.mirror(old, "tiny-0.9-cpu", account.production)
    assert gc(root, cloud, "pre", "--older-than", "0h", "--delete").returncode == 0
    assert old in account.digests(account.repository)


def test_production_loses_no_image(estate, cloud) -> None:
    root, account, (old, new) = estate
    account.mirror(old, "tiny-0.9-cpu", account.production)
    account.mirror(new, f"rlimages-run-20200101T000000-1-{CELL}", account.production)
    ended = gc(root, cloud, "production", "--older-than", "0h", "--delete")
    assert ended.returncode == 0, ended.stderr
    assert account.digests(account.production) == {old, new}


def test_nothing_is_deleted_where_production_can_not_be_asked(estate, cloud) -> None:
    root, account, (old, _) = estate
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["production"] = {"registry": "127.0.0.1:9", "promote_from": "pre"}
    (root / "targets.yaml").write_text(json.dumps(targets))
    ended = gc(root, cloud, "pre", "--older-than", "0h", "--delete")
    assert ended.returncode == 7
    assert old in account.digests(account.repository)


@pytest.fixture
def plain(client, upstream, tmp_path):
    """The same in a plain registry, where the older image still has a tag that left the matrix."""
    root, stamp = tmp_path / "project", f"gc-{os.getpid()}-{time.time_ns()}"
    write(root, {"pre": {"registry": f"{upstream}/{stamp}", "accept": [], "floating": ["*"]}})
    assert rlimages(root, "run", "--select", CELL, "--target", "pre").returncode == 0
    with RegistryClient(upstream) as registry:
        old = registry.read_manifest(f"{stamp}/tiny", "tiny-1.0-cpu")
        registry.put_manifest(f"{stamp}/tiny", "tiny-0.9-cpu", old)
    (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{time.time_ns()}"))
    assert rlimages(root, "render").returncode == 0
    assert rlimages(root, "run", "--select", CELL, "--target", "pre").returncode == 0
    return root, f"{stamp}/tiny"


def test_in_a_plain_registry_the_record_says_how_old_an_image_is(plain, upstream) -> None:
    root, repository = plain
    assert rlimages(root, "gc", "--target", "pre", "--delete").stdout.startswith("0 deleted")
    ended = rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--delete")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("2 deleted, 2 kept\n")
    with RegistryClient(upstream) as registry:
        left = registry.list_tags(repository)
    assert sorted(tag for tag in left if not tag.startswith(("smoke-", "build-"))) == ["tiny-1.0-cpu", "tiny-cpu"]
    assert len(left) == 4


def test_a_kept_tag_stays(plain, upstream) -> None:
    root, repository = plain
    rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--keep", "tiny-0.*", "--delete")
    with RegistryClient(upstream) as registry:
        assert "tiny-0.9-cpu" in registry.list_tags(repository)


def test_a_signature_of_cosign_is_deleted_with_its_image(plain, upstream, tmp_path) -> None:
    root, repository = plain
    environ = {**os.environ, "COSIGN_PASSWORD": "word"}
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, env=environ, check=True, capture_output=True)
    cosign = Cosign(tmp_path, context=RunContext(environ=environ, stop=Stop()))
    with RegistryClient(upstream) as registry:
        old, new = (registry.read_manifest(repository, tag).digest for tag in ("tiny-0.9-cpu", "tiny-1.0-cpu"))
        for digest in (old, new):
            image = SignedImage(host=upstream, repository=repository, digest=digest)
            cosign.sign(image, SigningKey(name=str(tmp_path / "cosign.key"), password="word"), {})
        assert len(registry.list_tags(f"{repository}-signatures")) == 2
        ended = rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--delete")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert registry.list_tags(f"{repository}-signatures") == (f"{new.replace(':', '-')}.sig",)
