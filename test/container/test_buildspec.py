"""Run the phases of buildspec.yml as CodeBuild does, on a project of one tiny cell, against AWS on loopback."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
import yaml
from aws import PASSWORD, REGIONS, Cloud, host
from tiny_project import CELL, REPOSITORY, ROOT, write_project

SPEC = yaml.safe_load((ROOT / "buildspec.yml").read_text())
TAGS = ("tiny-1.0-cpu", "tiny-cpu")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@dataclass
class Job:
    """One build of a CodeBuild project. Each command is a new shell; only the environment and the folder are kept."""

    folder: Path
    environ: dict[str, str]
    output: str = ""
    failed: list[str] = field(default_factory=list)
    """The phases that failed."""

    def run(self) -> None:
        self.environ.update(SPEC["env"]["variables"] | self.environ)
        for phase in ("install", "pre_build", "build", "post_build"):
            self.environ["CODEBUILD_BUILD_SUCCEEDING"] = "0" if self.failed else "1"
            if all(self._run(command) for command in SPEC["phases"][phase]["commands"]):
                continue
            self.failed.append(phase)
            if phase in ("install", "pre_build"):
                return

    def _run(self, command: str) -> bool:
        environment_file = self.folder.parent / "environment"
        result = subprocess.run(
            ["bash", "-c", f'{command}\ncode=$?; env -0 > "$KEPT"; exit $code'],
            cwd=self.folder,
            env={**self.environ, "KEPT": str(environment_file)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        self.output += f"$ {command}\n{result.stdout}"
        if environment_file.exists():
            lines = environment_file.read_text().rstrip("\0").split("\0")
            self.environ = dict(line.split("=", 1) for line in lines)
            environment_file.unlink()
        return result.returncode == 0


@pytest.fixture
def job(client, cloud, tmp_path) -> Job:
    prefix = f"job-{time.time_ns()}"
    root, programs = tmp_path / "project", tmp_path / "bin"
    pre = {"ecr": {"regions": [REGIONS[0]]}, "prefix": f"{prefix}-test", "accept": [], "floating": ["*"]}
    production = {"ecr": {"regions": list(REGIONS)}, "prefix": prefix, "accept": [], "promote_from": "pre-production"}
    write_project(root, {"pre-production": pre, "production": production})
    programs.mkdir()
    (programs / "rlimages").write_text(f'#!/bin/sh\nexec {sys.executable} -m rlimages "$@"\n')
    (programs / "rlimages").chmod(0o755)
    # AWS_REGION is set by CodeBuild, CELLS by the CodeBuild project
    variables = {"AWS_REGION": REGIONS[0], "CELLS": f"{CELL} tiny-*", "PATH": f"{programs}:{os.environ['PATH']}"}
    return Job(folder=root, environ={**cloud.environ, **variables, "PREFIX": prefix})


def tag_digests(cloud: Cloud, region: str, repository: str) -> set[str | None]:
    """Return the digests of the cell's tags in a region; None stands for a missing tag."""
    context = ssl.create_default_context(cafile=str(cloud.folder / "ca.pem"))
    headers = {"accept": "application/vnd.docker.distribution.manifest.v2+json"}
    with httpx.Client(proxy=cloud.environ["HTTPS_PROXY"], verify=context, auth=("AWS", PASSWORD)) as registry:
        responses = [
            registry.head(f"https://{host(region)}/v2/{repository}/manifests/{tag}", headers=headers) for tag in TAGS
        ]
    return {
        response.headers["docker-content-digest"] if response.status_code == 200 else None for response in responses
    }


def test_the_buildspec_has_the_form_that_codebuild_reads() -> None:
    assert SPEC["version"] == 0.2
    assert set(SPEC) == {"version", "env", "phases", "reports", "artifacts"}
    assert list(SPEC["phases"]) == ["install", "pre_build", "build", "post_build"]
    assert all(isinstance(value, str) for value in SPEC["env"]["variables"].values())
    commands = [command for phase in SPEC["phases"].values() for command in phase["commands"]]
    assert all(isinstance(command, str) for command in commands)
    (report,) = SPEC["reports"].values()
    assert report["file-format"] == "JUNITXML"


def test_all_variables_of_the_buildspec_are_documented() -> None:
    page = (ROOT / "docs/ci.md").read_text()
    variables = {**SPEC["env"]["variables"], **dict.fromkeys(SPEC["env"]["exported-variables"])}
    assert not [name for name in variables if f"`{name}`" not in page]


def test_a_build_without_release_is_published_to_pre_production_only(job: Job, cloud: Cloud) -> None:
    job.run()
    assert not job.failed, job.output
    prefix = job.environ["PREFIX"]
    (digest,) = tag_digests(cloud, REGIONS[0], f"{prefix}-test/{REPOSITORY}")
    assert digest
    assert all(tag_digests(cloud, region, f"{prefix}/{REPOSITORY}") == {None} for region in REGIONS)
    assert "nothing is promoted: this is no release build" in job.output
    assert job.environ["RELEASED"] == "no"
    (report,) = SPEC["reports"].values()
    (junit,) = [job.folder / report["base-directory"] / name for name in report["files"]]
    assert list(ElementTree.parse(junit).getroot().iter("testcase"))
    for pattern in SPEC["artifacts"]["files"]:
        assert list(job.folder.glob(pattern)), pattern


@pytest.mark.parametrize(
    "variables", [{"RELEASE": "yes"}, {"CODEBUILD_WEBHOOK_TRIGGER": "tag/v1.2.0"}], ids=["variable", "tag"]
)
def test_a_release_build_promotes_to_all_regions(job: Job, cloud: Cloud, variables: Mapping[str, str]) -> None:
    job.environ.update(variables)
    job.run()
    assert not job.failed, job.output
    prefix = job.environ["PREFIX"]
    (digest,) = tag_digests(cloud, REGIONS[0], f"{prefix}-test/{REPOSITORY}")
    assert digest
    assert [tag_digests(cloud, region, f"{prefix}/{REPOSITORY}") for region in REGIONS] == [{digest}, {digest}]
    assert job.environ["RELEASED"] == "yes"


def test_an_image_that_fails_its_checks_is_neither_published_nor_promoted(job: Job, cloud: Cloud) -> None:
    (job.folder / "templates/smoke/check_good.py").write_text("echo bad; exit 1\n")
    job.environ["RELEASE"] = "yes"
    job.run()
    assert job.failed == ["build"], job.output
    prefix = job.environ["PREFIX"]
    assert tag_digests(cloud, REGIONS[0], f"{prefix}-test/{REPOSITORY}") == {None}
    assert "nothing is promoted: the build failed" in job.output
    assert job.environ["RELEASED"] == "no"


def test_an_out_of_date_dockerfile_stops_the_job_before_anything_is_built(job: Job) -> None:
    (job.folder / "templates/tiny.Dockerfile.j2").write_text("FROM scratch\n")
    job.run()
    assert job.failed == ["pre_build"], job.output
    assert "rlimages run" not in job.output
