"""`rlimages gc` in ECR on loopback and in a plain registry: which images it lists, keeps and deletes."""

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
from tiny_project import CELL, REPOSITORY, TEMPLATE, rlimages, write_project

from rlimages.oci.manifest import sha256_digest
from rlimages.registry.client import RegistryClient
from rlimages.supplychain.cosign import SignedImage
from rlimages.supplychain.signing import Cosign, SigningKey
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

MEDIA_TYPES = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
REGION, PREFIX = REGIONS[0], "gc"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


class Account:
    """One region of the account. moto has no registry, so pushed images are copied to its control plane."""

    def __init__(self, cloud: Cloud, prefix: str) -> None:
        self.repository, self.signatures = f"{prefix}/{REPOSITORY}", f"{prefix}/{REPOSITORY}-signatures"
        self.production = f"{prefix}-production/{REPOSITORY}"
        self._registry = httpx.Client(
            base_url=f"https://{host(REGION)}/v2/{self.repository}/",
            proxy=cloud.environ["HTTPS_PROXY"],
            verify=ssl.create_default_context(cafile=str(cloud.folder / "ca.pem")),
            auth=("AWS", PASSWORD),
            headers={"accept": ", ".join(MEDIA_TYPES)},
        )
        self._ecr = boto3.client(
            "ecr", region_name=REGION, endpoint_url=cloud.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def pushed_tags(self) -> list[str]:
        return list(self._registry.get("tags/list").json()["tags"])

    def mirror(self, reference: str, tag: str, repository: str = "") -> None:
        response = self._registry.get(f"manifests/{reference}")
        self.put(repository or self.repository, tag, response.text, response.headers["content-type"])

    def put(self, repository: str, tag: str, content: str, kind: str) -> None:
        with suppress(self._ecr.exceptions.RepositoryAlreadyExistsException):
            self._ecr.create_repository(repositoryName=repository, imageTagMutability="MUTABLE")
        self._ecr.put_image(
            repositoryName=repository, imageTag=tag, imageManifest=content, imageManifestMediaType=kind,
            imageDigest=sha256_digest(content.encode()),
        )  # fmt: skip

    def sign(self, digest: str) -> str:
        """Put a manifest under the tag that cosign gives to the signature of an image, and return the tag."""
        tag = f"{digest.replace(':', '-')}.sig"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPES[1],
            "config": EMPTY,
            "layers": [],
            "annotations": {"of": tag},
        }
        self.put(self.signatures, tag, json.dumps(manifest), MEDIA_TYPES[1])
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
    """A project that released two images to ECR under the same tags: its folder, the digest of each release, its targets."""
    root = tmp_path_factory.mktemp("gc") / "project"
    ecr = {"regions": [REGION], "account": ACCOUNT}
    pre = {"ecr": ecr, "prefix": PREFIX, "accept": [], "floating": ["*"]}
    write_project(
        root, {"pre": pre, "production": {"ecr": ecr, "prefix": f"{PREFIX}-production", "promote_from": "pre"}}
    )
    digests = {}
    for number in range(2):
        (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{number}-{time.time_ns()}"))
        assert rlimages(root, "render").returncode == 0
        result = rlimages(root, "run", "--select", CELL, "--target", "pre", env=cloud.environ)
        assert result.returncode == 0, result.stdout + result.stderr
        (release,) = sorted((root / ".rlimages/releases").iterdir())[number:]
        journal = [json.loads(line) for line in (release / "journal.jsonl").read_text().splitlines()]
        (digests[release.name],) = {entry["digest"] for entry in journal if entry["event"] == "staged"}
    return root, digests, (root / "targets.yaml").read_text()


@pytest.fixture
def ecr_project(released, cloud):
    """The project, the account with the temporary tag of each release, and the digests of the older and the newer image."""
    root, digests, targets = released
    (root / "targets.yaml").write_text(targets)
    account = Account(cloud, PREFIX)
    account.clear()
    for release, digest in digests.items():
        account.mirror(digest, f"rlimages-run-{release}-{CELL}")
    for tag in account.pushed_tags():
        if not tag.startswith("rlimages-run-"):
            account.mirror(tag, tag)
    yield root, account, tuple(digests.values())
    account.close()


def run_gc(root, cloud, *arguments: str):
    return rlimages(root, "gc", "--target", *arguments, env=cloud.environ)


def test_without_delete_the_images_are_listed_and_nothing_changes(ecr_project, cloud) -> None:
    root, account, (old, new) = ecr_project
    account.sign(old)
    before = account.digests(account.repository), account.tags(account.signatures)
    result = run_gc(root, cloud, "pre", "--older-than", "0h")
    assert result.returncode == 0, result.stderr
    assert f"would be deleted: image {host(REGION)}/{account.repository}@{old} (rlimages-run-" in result.stdout
    assert f"@{new} (rlimages-run-" in result.stdout
    assert "its release is over" in result.stdout
    assert result.stdout.endswith("4 would be deleted, 2 kept; --delete deletes them\n")
    assert (account.digests(account.repository), account.tags(account.signatures)) == before


def test_an_old_image_is_deleted_with_its_record_and_signature_and_the_new_one_is_kept(ecr_project, cloud) -> None:
    root, account, (old, new) = ecr_project
    account.sign(old)
    kept_tag = account.sign(new)
    result = run_gc(root, cloud, "pre", "--older-than", "0h", "--delete")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("4 deleted, 3 kept\n")
    assert old not in account.digests(account.repository)
    assert {tag.partition("-")[0] for tag in account.tags(account.repository)} == {"build", "smoke", "tiny"}
    assert len(account.tags(account.repository)) == 4  # two tags of the matrix, the build record and the pass record
    assert account.tags(account.signatures) == {kept_tag}
    assert run_gc(root, cloud, "pre", "--older-than", "0h", "--delete").stdout.startswith("0 deleted")


def test_an_image_that_a_recent_release_needs_for_a_rollback_is_kept(ecr_project, cloud) -> None:
    root, account, (old, new) = ecr_project
    result = run_gc(root, cloud, "pre", "--older-than", "1h", "--delete")
    assert result.returncode == 0, result.stdout + result.stderr
    assert account.digests(account.repository) >= {old, new}
    items = json.loads(run_gc(root, cloud, "pre", "--older-than", "1h", "--json").stdout)
    (reason,) = [item["why"] for item in items if item["digest"] == old and item["kind"] == "image"]
    assert reason.endswith("can be rolled back")


def test_an_image_in_production_is_kept_in_the_target_it_was_promoted_from(ecr_project, cloud) -> None:
    root, account, (old, _) = ecr_project
    account.mirror(old, "tiny-0.9-cpu", account.production)
    assert run_gc(root, cloud, "pre", "--older-than", "0h", "--delete").returncode == 0
    assert old in account.digests(account.repository)


def test_no_image_is_deleted_from_production(ecr_project, cloud) -> None:
    root, account, (old, new) = ecr_project
    account.mirror(old, "tiny-0.9-cpu", account.production)
    account.mirror(new, f"rlimages-run-20200101T000000-1-{CELL}", account.production)
    result = run_gc(root, cloud, "production", "--older-than", "0h", "--delete")
    assert result.returncode == 0, result.stderr
    assert account.digests(account.production) == {old, new}


def test_nothing_is_deleted_if_production_is_unreachable(ecr_project, cloud) -> None:
    root, account, (old, _) = ecr_project
    targets = json.loads((root / "targets.yaml").read_text())
    targets["targets"]["production"] = {"registry": "127.0.0.1:9", "promote_from": "pre"}
    (root / "targets.yaml").write_text(json.dumps(targets))
    result = run_gc(root, cloud, "pre", "--older-than", "0h", "--delete")
    assert result.returncode == 7
    assert old in account.digests(account.repository)


@pytest.fixture
def plain_project(client, upstream, tmp_path):
    """A project with two releases in a plain registry. The older image has a tag that is not in the matrix any more."""
    root, stamp = tmp_path / "project", f"gc-{os.getpid()}-{time.time_ns()}"
    write_project(root, {"pre": {"registry": f"{upstream}/{stamp}", "accept": [], "floating": ["*"]}})
    assert rlimages(root, "run", "--select", CELL, "--target", "pre").returncode == 0
    with RegistryClient(upstream) as registry:
        old = registry.read_manifest(f"{stamp}/{REPOSITORY}", "tiny-1.0-cpu")
        registry.put_manifest(f"{stamp}/{REPOSITORY}", "tiny-0.9-cpu", old)
    (root / "templates/tiny.Dockerfile.j2").write_text(TEMPLATE.replace("VERSION", f"{time.time_ns()}"))
    assert rlimages(root, "render").returncode == 0
    assert rlimages(root, "run", "--select", CELL, "--target", "pre").returncode == 0
    return root, f"{stamp}/{REPOSITORY}"


def test_in_a_plain_registry_the_pass_record_gives_the_age_of_an_image(plain_project, upstream) -> None:
    root, repository = plain_project
    assert rlimages(root, "gc", "--target", "pre", "--delete").stdout.startswith("0 deleted")
    result = rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--delete")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("2 deleted, 2 kept\n")
    with RegistryClient(upstream) as registry:
        tags = registry.list_tags(repository)
    assert sorted(tag for tag in tags if not tag.startswith(("smoke-", "build-"))) == ["tiny-1.0-cpu", "tiny-cpu"]
    assert len(tags) == 4


def test_a_tag_that_matches_keep_is_not_deleted(plain_project, upstream) -> None:
    root, repository = plain_project
    rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--keep", "tiny-0.*", "--delete")
    with RegistryClient(upstream) as registry:
        assert "tiny-0.9-cpu" in registry.list_tags(repository)


def test_a_cosign_signature_is_deleted_with_its_image(plain_project, upstream, tmp_path) -> None:
    root, repository = plain_project
    environ = {**os.environ, "COSIGN_PASSWORD": "word"}
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, env=environ, check=True, capture_output=True)
    cosign = Cosign(tmp_path, context=RunContext(environ=environ, stop=Stop()))
    with RegistryClient(upstream) as registry:
        old, new = (registry.read_manifest(repository, tag).digest for tag in ("tiny-0.9-cpu", "tiny-1.0-cpu"))
        for digest in (old, new):
            image = SignedImage(host=upstream, repository=repository, digest=digest)
            cosign.sign(image, SigningKey(name=str(tmp_path / "cosign.key"), password="word"), {})
        assert len(registry.list_tags(f"{repository}-signatures")) == 2
        result = rlimages(root, "gc", "--target", "pre", "--older-than", "0h", "--delete")
        assert result.returncode == 0, result.stdout + result.stderr
        assert registry.list_tags(f"{repository}-signatures") == (f"{new.replace(':', '-')}.sig",)
