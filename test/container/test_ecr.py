"""The ECR publish job, against AWS on loopback: two regions, TLS, passwords, repositories that do not exist yet."""

import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import httpx
import pytest
from aws import ACCOUNT, PASSWORD, REGIONS, Cloud, host, secrets
from botocore.exceptions import ClientError
from tiny_project import CELL, ROOT, rlimages, write

OLD = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}
POLICY = {"rules": [{"rulePriority": 1, "selection": OLD, "action": {"type": "expire"}}]}


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
    write(
        root,
        {"ecr": {"ecr": {"regions": list(REGIONS)}, "prefix": prefix, "accept": [], "repositories": repositories}},
    )
    return root, f"{prefix}/tiny"


def publish(root: Path, cloud: Cloud, *words: str):
    return rlimages(root, *words, env=cloud.environ)


def held(cloud: Cloud, region: str, repository: str, tag: str) -> str | None:
    """The digest that a region's registry has under a tag."""
    context = __import__("ssl").create_default_context(cafile=str(cloud.folder / "ca.pem"))
    with httpx.Client(proxy=cloud.environ["HTTPS_PROXY"], verify=context, auth=("AWS", PASSWORD)) as client:
        answer = client.head(
            f"https://{host(region)}/v2/{repository}/manifests/{tag}",
            headers={"accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
    return answer.headers["docker-content-digest"] if answer.status_code == 200 else None


def ecr(cloud: Cloud, region: str):
    return boto3.client(
        "ecr", region_name=region, endpoint_url=cloud.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


def test_all_regions_get_the_same_image_under_all_tags(project, cloud) -> None:
    root, repository = project
    ended = publish(root, cloud, "run", "--select", CELL, "--target", "ecr")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    digests = {held(cloud, region, repository, tag) for region in REGIONS for tag in ("tiny-1.0-cpu", "tiny-cpu")}
    assert len(digests) == 1
    assert None not in digests
    assert "GetAuthorizationToken" in ended.stdout


def test_repositories_are_made_as_the_target_says(project, cloud) -> None:
    root, repository = project
    assert publish(root, cloud, "run", "--select", CELL, "--target", "ecr").returncode == 0
    for region in REGIONS:
        (made,) = ecr(cloud, region).describe_repositories(repositoryNames=[repository])["repositories"]
        assert made["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
        patterns = [one["filter"] for one in made["imageTagMutabilityExclusionFilters"]]
        assert patterns == ["tiny-cpu", "build-*"]
        assert made["imageScanningConfiguration"] == {"scanOnPush": True}
        assert "untagged" in ecr(cloud, region).get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]


def test_a_repository_that_cannot_be_made_as_wanted_is_not_left_behind(project, cloud) -> None:
    root, repository = project
    (root / "targets.yaml").write_text((root / "targets.yaml").read_text().replace("countNumber", "countNumbr"))
    ended = publish(root, cloud, "run", "--select", CELL, "--target", "ecr")
    assert ended.returncode == 1
    assert "refused PutLifecyclePolicy" in ended.stdout
    with pytest.raises(ClientError, match="RepositoryNotFound"):
        ecr(cloud, "us-west-2").describe_repositories(repositoryNames=[repository])


def test_one_region_down_does_not_stop_the_other_and_resume_finishes_it(project, cloud) -> None:
    root, repository = project
    cloud.regions["eu-west-1"].stop()
    try:
        ended = publish(root, cloud, "run", "--select", CELL, "--target", "ecr")
    finally:
        cloud.regions["eu-west-1"].start()
    assert ended.returncode == 1, ended.stderr + ended.stdout
    assert held(cloud, "us-west-2", repository, "tiny-1.0-cpu")
    assert held(cloud, "eu-west-1", repository, "tiny-1.0-cpu") is None
    assert f"cannot reach the registry {host('eu-west-1')}" in ended.stdout
    assert "ecr/eu-west-1: untouched" in ended.stdout
    ended = publish(root, cloud, "publish", "--resume")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert held(cloud, "eu-west-1", repository, "tiny-cpu") == held(cloud, "us-west-2", repository, "tiny-cpu")


def test_the_password_stands_nowhere(project, cloud, tmp_path) -> None:
    root, _ = project
    ended = publish(root, cloud, "run", "--select", CELL, "--target", "ecr")
    said = (ended.stdout + ended.stderr).encode()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    for secret in secrets():
        assert not [one for one in (said, *files) if secret in one]


def test_without_credentials_one_sentence_says_so(project, cloud, tmp_path) -> None:
    root, _ = project
    environ = {name: value for name, value in cloud.environ.items() if not name.startswith("AWS_")}
    environ.update(HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true")
    ended = rlimages(root, "publish", "--select", CELL, "--target", "ecr", env=environ)
    assert "there are no AWS credentials" in ended.stderr
    assert ended.returncode == 7


def test_an_image_in_ecr_is_judged_with_the_same_credentials(project, cloud, tmp_path) -> None:
    root, repository = project
    assert publish(root, cloud, "run", "--select", CELL, "--target", "ecr").returncode == 0
    environ = {**cloud.environ, "DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "tcp://127.0.0.1:9"}
    ended = rlimages(root, "accept", f"{host('eu-west-1')}/{repository}:tiny-cpu", env=environ)
    assert "REFUSED  programs         no `train` is on PATH" in ended.stdout, ended.stderr
    assert "passed   manifest" in ended.stdout
    assert ended.returncode == 8


def test_the_script_of_old_publishes_to_an_account_without_docker_login(project, cloud, tmp_path) -> None:
    root, _ = project
    shutil.copytree(ROOT / "scripts", root / "scripts")
    (tmp_path / "rlimages").write_text(f'#!/bin/sh\nexec {sys.executable} -m rlimages "$@"\n')
    (tmp_path / "rlimages").chmod(0o755)
    assert rlimages(root, "build", "--select", CELL).returncode == 0
    words = ["-t", "tiny", "-v", "1.0", "--line", "debian", "-i", ACCOUNT, "-r", "eu-west-1"]
    environ = {**cloud.environ, "PATH": f"{tmp_path}:{cloud.environ['PATH']}"}
    ended = subprocess.run(
        [root / "scripts/publish.sh", *words], env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert held(cloud, "eu-west-1", "tiny", "tiny-1.0-cpu")
