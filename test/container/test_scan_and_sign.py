"""Scan and sign images in ECR before their tags move, with moto and a registry on loopback in place of AWS."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path

import boto3
import httpx
import pytest
from aws import ACCOUNT, Cloud, host, secrets

from rlimages.errors import RegistryError
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, compose_manifest, sha256_digest
from rlimages.release.model import RegistryConnection, ReleaseItem
from rlimages.release.requirements import TargetRequirements, check_scans, sign_images
from rlimages.release.sboms import verified_sboms
from rlimages.release.target import connect
from rlimages.release.targets_file import RawEcr, RawTarget
from rlimages.supplychain.scan import Severity, Waiver
from rlimages.supplychain.signing import Cosign, SigningKey, verification_key
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

REGION = "us-west-2"
TODAY = date(2026, 11, 21)
SBOM = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []})
TARGET = RawTarget(ecr=RawEcr(regions=[REGION]), prefix="team", accept=[])
_number = count()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> SigningKey:
    folder = tmp_path_factory.mktemp("key")
    environ = {**os.environ, "COSIGN_PASSWORD": "word"}
    subprocess.run(["cosign", "generate-key-pair"], cwd=folder, env=environ, check=True, capture_output=True)
    return SigningKey(name=str(folder / "cosign.key"), password="word")


@pytest.fixture
def connection(cloud, monkeypatch) -> RegistryConnection:
    for name, value in cloud.environ.items():
        monkeypatch.setenv(name, value)
    (connection,) = connect("production", TARGET, [], environ=cloud.environ)
    yield connection
    connection.client.close()


@pytest.fixture
def image(connection, cloud) -> dict[ReleaseItem, str]:
    """An image that is pushed to ECR before its tags move. Its manifest is also put into moto, which has no registry."""
    name = f"tiny-{next(_number)}"
    item = ReleaseItem(cell=f"{name}-cpu", repository=name, image="", tags=("1.0",))
    repository = connection.registry.repository(item)
    connection.ensure_repository(repository)
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "name": name}).encode()
    layer = Blob(media_type=DOCKER_LAYER, digest=sha256_digest(name.encode()), size=len(name))
    manifest = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest=sha256_digest(config), size=len(config)), [layer])
    for blob, content in zip(manifest.blobs, (name.encode(), config), strict=True):
        connection.client.upload_blob(repository, blob, lambda content=content: iter([content]))
    connection.client.put_manifest(repository, "1.0", manifest)
    client(cloud).put_image(
        repositoryName=repository,
        imageManifest=manifest.content.decode(),
        imageTag="1.0",
        imageDigest=manifest.digest,
    )
    return {item: manifest.digest}


@pytest.fixture
def check(connection, image):
    lines: list[str] = []

    def check(**options):
        requirements = TargetRequirements(**options)
        results = check_scans(connection, image, requirements, today=TODAY, stop=Stop(), print_line=lines.append)
        return results, lines

    return check


@pytest.fixture
def sign(connection, image, key, cloud, tmp_path):
    def sign(sbom: str = SBOM):
        (item,) = image
        context = RunContext(environ=cloud.environ, stop=Stop())
        return sign_images(
            connection, image, TargetRequirements(key=key), {item.cell: sbom}, folder=tmp_path / "release", context=context,
            print_line=lambda _line: None,
        )  # fmt: skip

    return sign


def client(cloud: Cloud):
    options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
    return boto3.client("ecr", endpoint_url=cloud.environ["AWS_ENDPOINT_URL"], **options)


def set_inspector_finding(
    cloud: Cloud, connection: RegistryConnection, image: dict[ReleaseItem, str], severity: str
) -> None:
    """Give moto the finding that Amazon Inspector returns."""
    ((item, name),) = image.items()
    details = {"vulnerabilityId": "CVE-2026-1", "vulnerablePackages": [{"name": "openssl", "version": "3.0.1"}]}
    finding = {"severity": severity, "status": "ACTIVE", "packageVulnerabilityDetails": details}
    result = {
        "repositoryName": connection.registry.repository(item),
        "imageId": {"imageDigest": name},
        "imageScanStatus": {"status": "ACTIVE"},
        "imageScanFindings": {"enhancedFindings": [finding], "findingSeverityCounts": {severity: 1}},
    }
    values = {"results": [result], "account_id": ACCOUNT, "region": REGION}
    url = f"{cloud.environ['AWS_ENDPOINT_URL']}/moto-api/static/ecr/scan-finding-results"
    httpx.post(url, json=values, trust_env=False).raise_for_status()


def test_an_image_without_a_scan_is_scanned_and_its_findings_stop_the_release(check, connection, image) -> None:
    ((item, name),) = image.items()
    assert connection.ecr.scan_findings(connection.registry.repository(item), name) is None
    with pytest.raises(RegistryError, match=rf"{item.cell}: CVE-9999-9999 \(high\) in moto_fake 9.9.9"):
        check(fail_on=Severity.HIGH)


def test_a_finding_below_the_threshold_is_counted(check, image) -> None:
    results, lines = check(fail_on=Severity.CRITICAL)
    assert [result.counts[Severity.HIGH] for result in results.values()] == [1]
    assert any("1 findings (1 high); 0 blocking, 0 waived" in line for line in lines)


def test_a_waiver_is_valid_until_its_review_date(check) -> None:
    waiver = Waiver(id="CVE-9999-9999", reason="of a test", owner="me", review_by=TODAY)
    assert check(fail_on=Severity.HIGH, waivers=(waiver,))
    expired = replace(waiver, review_by=date(2026, 11, 20))
    with pytest.raises(RegistryError, match="CVE-9999-9999"):
        check(fail_on=Severity.HIGH, waivers=(expired,))


def test_findings_of_an_enhanced_scan_stop_the_release(check, cloud, connection, image) -> None:
    set_inspector_finding(cloud, connection, image, "CRITICAL")
    with pytest.raises(RegistryError, match=r"CVE-2026-1 \(critical\) in openssl 3.0.1"):
        check(fail_on=Severity.HIGH)


def test_a_target_without_requirements_scans_nothing(check) -> None:
    assert check()[0] == {}


def test_a_missing_image_is_an_error_and_differs_from_an_unscanned_one(connection, image) -> None:
    (item,) = image
    with pytest.raises(RegistryError, match="ImageNotFoundException"):
        connection.ecr.scan_findings(connection.registry.repository(item), "sha256:" + "0" * 64)


def test_an_image_is_signed_under_its_name_in_ecr_with_ecr_credentials(sign, image) -> None:
    ((item, name),) = image.items()
    (verification,) = sign()
    assert verification.image.reference == f"{host(REGION)}/team/{item.repository}@{name}"
    assert verification.annotations["rlimages.cell"] == item.cell
    assert verification.sbom == json.loads(SBOM)


def test_the_command_verifies_in_ecr_with_aws_credentials_only(sign, image, cloud, tmp_path) -> None:
    (verification,) = sign()
    environ = {**cloud.environ, "DOCKER_CONFIG": str(tmp_path / "nobody")}
    reference = f"{verification.image.host}/{verification.image.repository}:1.0"
    argv = [sys.executable, "-m", "rlimages", "verify", reference, "--key", str(tmp_path / "release/cosign.pub")]
    result = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    assert f"{reference}: verified\n  digest    {verification.image.digest}\n" in result.stdout


def test_the_repository_of_signatures_has_movable_tags_and_is_not_scanned(sign, image, cloud) -> None:
    sign()
    (item,) = image
    name = f"team/{item.repository}-signatures"
    (settings,) = client(cloud).describe_repositories(repositoryNames=[name])["repositories"]
    assert settings["imageTagMutability"] == "MUTABLE"
    assert settings["imageScanningConfiguration"] == {"scanOnPush": False}


def test_the_images_own_repository_gets_no_tag(sign, connection, image) -> None:
    sign()
    (item,) = image
    assert connection.client.list_tags(connection.registry.repository(item)) == ("1.0",)


def test_a_release_keeps_the_sboms_and_no_password(sign, image, tmp_path) -> None:
    sign()
    (item,) = image
    files = {path.name: path.read_bytes() for path in (tmp_path / "release").iterdir()}
    assert files[f"{item.cell}.cdx.json"] == SBOM.encode()
    assert not [name for name, content in files.items() for secret in secrets() if secret in content]


def test_a_promotion_uses_the_sboms_that_the_source_attests(sign, connection, image, key, cloud, tmp_path) -> None:
    with pytest.raises(RegistryError, match="is not signed by the key"):
        read_sboms(connection, image, key, cloud, tmp_path)
    sign()
    (sbom,) = read_sboms(connection, image, key, cloud, tmp_path).values()
    assert json.loads(sbom) == json.loads(SBOM)


def read_sboms(
    connection: RegistryConnection, image: dict[ReleaseItem, str], key: SigningKey, cloud: Cloud, folder: Path
):
    context = RunContext(environ=cloud.environ, stop=Stop())
    public = verification_key(Cosign(folder, context=context), key, folder)
    return verified_sboms(connection, image, public, context=context)
