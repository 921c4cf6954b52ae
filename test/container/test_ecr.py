"""Publish to ECR on loopback: two regions, TLS, passwords, and repositories that do not exist yet."""

import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import httpx
import pytest
from aws import ACCOUNT, PASSWORD, REGIONS, Cloud, host, secrets
from botocore.exceptions import ClientError
from tiny_project import CELL, REPOSITORY, ROOT, rlimages, write_project

UNTAGGED_FOR_14_DAYS = {
    "tagStatus": "untagged",
    "countType": "sinceImagePushed",
    "countUnit": "days",
    "countNumber": 14,
}
POLICY = {"rules": [{"rulePriority": 1, "selection": UNTAGGED_FOR_14_DAYS, "action": {"type": "expire"}}]}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@pytest.fixture
def project(client, cloud, tmp_path, request):
    root = tmp_path / "project"
    prefix = request.node.name.replace("_", "-")[:50].strip("-")
    repositories = {"lifecycle": POLICY, "tags": {"team": "rl"}}
    write_project(
        root,
        {"ecr": {"ecr": {"regions": list(REGIONS)}, "prefix": prefix, "accept": [], "repositories": repositories}},
    )
    return root, f"{prefix}/{REPOSITORY}"


def run_with_aws(root: Path, cloud: Cloud, *arguments: str):
    return rlimages(root, *arguments, env=cloud.environ)


def read_digest(cloud: Cloud, region: str, repository: str, tag: str) -> str | None:
    """Return the digest of `tag` in the registry of `region`; None if the tag is missing."""
    context = __import__("ssl").create_default_context(cafile=str(cloud.folder / "ca.pem"))
    with httpx.Client(proxy=cloud.environ["HTTPS_PROXY"], verify=context, auth=("AWS", PASSWORD)) as client:
        response = client.head(
            f"https://{host(region)}/v2/{repository}/manifests/{tag}",
            headers={"accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
    return response.headers["docker-content-digest"] if response.status_code == 200 else None


def ecr_client(cloud: Cloud, region: str):
    return boto3.client(
        "ecr", region_name=region, endpoint_url=cloud.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


def test_all_regions_get_the_same_image_under_all_tags(project, cloud) -> None:
    root, repository = project
    result = run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr")
    assert result.returncode == 0, result.stderr + result.stdout
    digests = {
        read_digest(cloud, region, repository, tag) for region in REGIONS for tag in ("tiny-1.0-cpu", "tiny-cpu")
    }
    assert len(digests) == 1
    assert None not in digests
    assert "GetAuthorizationToken" in result.stdout


def test_repositories_are_created_with_the_settings_of_the_target(project, cloud) -> None:
    root, repository = project
    assert run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr").returncode == 0
    for region in REGIONS:
        (settings,) = ecr_client(cloud, region).describe_repositories(repositoryNames=[repository])["repositories"]
        assert settings["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
        patterns = [exclusion["filter"] for exclusion in settings["imageTagMutabilityExclusionFilters"]]
        assert patterns == ["tiny-cpu", "build-*"]
        assert settings["imageScanningConfiguration"] == {"scanOnPush": True}
        assert (
            "untagged"
            in ecr_client(cloud, region).get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]
        )


def test_a_repository_whose_settings_are_refused_is_not_left_behind(project, cloud) -> None:
    root, repository = project
    (root / "targets.yaml").write_text((root / "targets.yaml").read_text().replace("countNumber", "countNumbr"))
    result = run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr")
    assert result.returncode == 1
    assert "refused PutLifecyclePolicy" in result.stdout
    with pytest.raises(ClientError, match="RepositoryNotFound"):
        ecr_client(cloud, "us-west-2").describe_repositories(repositoryNames=[repository])


def test_an_unreachable_region_does_not_stop_the_other_and_resume_completes_it(project, cloud) -> None:
    root, repository = project
    cloud.regions["eu-west-1"].stop()
    try:
        result = run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr")
    finally:
        cloud.regions["eu-west-1"].start()
    assert result.returncode == 1, result.stderr + result.stdout
    assert read_digest(cloud, "us-west-2", repository, "tiny-1.0-cpu")
    assert read_digest(cloud, "eu-west-1", repository, "tiny-1.0-cpu") is None
    assert f"cannot reach the registry {host('eu-west-1')}" in result.stdout
    assert "ecr/eu-west-1: untouched" in result.stdout
    result = run_with_aws(root, cloud, "publish", "--resume")
    assert result.returncode == 0, result.stderr + result.stdout
    assert read_digest(cloud, "eu-west-1", repository, "tiny-cpu") == read_digest(
        cloud, "us-west-2", repository, "tiny-cpu"
    )


def test_the_password_is_in_no_output_and_no_file(project, cloud, tmp_path) -> None:
    root, _ = project
    result = run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr")
    output = (result.stdout + result.stderr).encode()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    for secret in secrets():
        assert not [content for content in (output, *files) if secret in content]


def test_missing_credentials_are_reported_in_one_sentence(project, cloud, tmp_path) -> None:
    root, _ = project
    environ = {name: value for name, value in cloud.environ.items() if not name.startswith("AWS_")}
    environ.update(HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true")
    result = rlimages(root, "publish", "--select", CELL, "--target", "ecr", env=environ)
    assert "there are no AWS credentials" in result.stderr
    assert result.returncode == 7


def test_accept_reads_an_image_in_ecr_with_aws_credentials(project, cloud, tmp_path) -> None:
    root, repository = project
    assert run_with_aws(root, cloud, "run", "--select", CELL, "--target", "ecr").returncode == 0
    environ = {**cloud.environ, "DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "tcp://127.0.0.1:9"}
    result = rlimages(root, "accept", f"{host('eu-west-1')}/{repository}:tiny-cpu", env=environ)
    assert "REFUSED  programs         there is no `train` on PATH" in result.stdout, result.stderr
    assert "passed   manifest" in result.stdout
    assert result.returncode == 8


def test_the_publish_script_publishes_to_an_account_without_docker_login(project, cloud, tmp_path) -> None:
    root, _ = project
    shutil.copytree(ROOT / "scripts", root / "scripts")
    (tmp_path / "rlimages").write_text(f'#!/bin/sh\nexec {sys.executable} -m rlimages "$@"\n')
    (tmp_path / "rlimages").chmod(0o755)
    assert rlimages(root, "build", "--select", CELL).returncode == 0
    arguments = ["-t", "tiny", "-v", "1.0", "--line", "debian", "-i", ACCOUNT, "-r", "eu-west-1"]
    environ = {**cloud.environ, "PATH": f"{tmp_path}:{cloud.environ['PATH']}"}
    result = subprocess.run(
        [root / "scripts/publish.sh", *arguments], env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert read_digest(cloud, "eu-west-1", REPOSITORY, "tiny-1.0-cpu")
