"""buildspec.yml, run as CodeBuild runs it: phase after phase, against AWS on loopback, on a project of one tiny cell."""

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
from tiny_project import CELL, ROOT, write

SPEC = yaml.safe_load((ROOT / "buildspec.yml").read_text())
TAGS = ("tiny-1.0-cpu", "tiny-cpu")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@dataclass
class Job:
    """One build of a CodeBuild project. As little as possible lasts between two commands: the environment and the folder."""

    folder: Path
    environ: dict[str, str]
    said: str = ""
    failed: list[str] = field(default_factory=list)
    """Phases that failed."""

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
        kept = self.folder.parent / "environment"
        ended = subprocess.run(
            ["bash", "-c", f'{command}\ncode=$?; env -0 > "$KEPT"; exit $code'],
            cwd=self.folder,
            env={**self.environ, "KEPT": str(kept)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        self.said += f"$ {command}\n{ended.stdout}"
        if kept.exists():
            lines = kept.read_text().rstrip("\0").split("\0")
            self.environ = dict(line.split("=", 1) for line in lines)
            kept.unlink()
        return ended.returncode == 0


@pytest.fixture
def job(client, cloud, tmp_path) -> Job:
    prefix = f"job-{time.time_ns()}"
    root, programs = tmp_path / "project", tmp_path / "bin"
    pre = {"ecr": {"regions": [REGIONS[0]]}, "prefix": f"{prefix}-test", "accept": [], "floating": ["*"]}
    production = {"ecr": {"regions": list(REGIONS)}, "prefix": prefix, "accept": [], "promote_from": "pre-production"}
    write(root, {"pre-production": pre, "production": production})
    programs.mkdir()
    (programs / "rlimages").write_text(f'#!/bin/sh\nexec {sys.executable} -m rlimages "$@"\n')
    (programs / "rlimages").chmod(0o755)
    # what CodeBuild sets, and what the project says
    words = {"AWS_REGION": REGIONS[0], "CELLS": f"{CELL} tiny-*", "PATH": f"{programs}:{os.environ['PATH']}"}
    return Job(folder=root, environ={**cloud.environ, **words, "PREFIX": prefix})


def held(cloud: Cloud, region: str, repository: str) -> set[str | None]:
    """What a region's registry has under the tags of the cell."""
    context = ssl.create_default_context(cafile=str(cloud.folder / "ca.pem"))
    kinds = {"accept": "application/vnd.docker.distribution.manifest.v2+json"}
    with httpx.Client(proxy=cloud.environ["HTTPS_PROXY"], verify=context, auth=("AWS", PASSWORD)) as asking:
        answers = [
            asking.head(f"https://{host(region)}/v2/{repository}/manifests/{tag}", headers=kinds) for tag in TAGS
        ]
    return {answer.headers["docker-content-digest"] if answer.status_code == 200 else None for answer in answers}


def test_it_has_the_form_that_codebuild_reads() -> None:
    assert SPEC["version"] == 0.2
    assert set(SPEC) == {"version", "env", "phases", "reports", "artifacts"}
    assert list(SPEC["phases"]) == ["install", "pre_build", "build", "post_build"]
    assert all(isinstance(value, str) for value in SPEC["env"]["variables"].values())
    commands = [command for phase in SPEC["phases"].values() for command in phase["commands"]]
    assert all(isinstance(command, str) for command in commands)
    (report,) = SPEC["reports"].values()
    assert report["file-format"] == "JUNITXML"


def test_its_variables_are_documented() -> None:
    page = (ROOT / "docs/ci.md").read_text()
    variables = {**SPEC["env"]["variables"], **dict.fromkeys(SPEC["env"]["exported-variables"])}
    assert not [name for name in variables if f"`{name}`" not in page]


def test_a_build_goes_to_pre_production_and_no_further(job: Job, cloud: Cloud) -> None:
    job.run()
    assert not job.failed, job.said
    prefix = job.environ["PREFIX"]
    (digest,) = held(cloud, REGIONS[0], f"{prefix}-test/tiny")
    assert digest
    assert all(held(cloud, region, f"{prefix}/tiny") == {None} for region in REGIONS)
    assert "nothing is promoted: this is no release build" in job.said
    assert job.environ["RELEASED"] == "no"
    (report,) = SPEC["reports"].values()
    (junit,) = [job.folder / report["base-directory"] / name for name in report["files"]]
    assert list(ElementTree.parse(junit).getroot().iter("testcase"))
    for pattern in SPEC["artifacts"]["files"]:
        assert list(job.folder.glob(pattern)), pattern


@pytest.mark.parametrize(
    "words", [{"RELEASE": "yes"}, {"CODEBUILD_WEBHOOK_TRIGGER": "tag/v1.2.0"}], ids=["word", "tag"]
)
def test_a_release_build_promotes_into_all_regions(job: Job, cloud: Cloud, words: Mapping[str, str]) -> None:
    job.environ.update(words)
    job.run()
    assert not job.failed, job.said
    prefix = job.environ["PREFIX"]
    (digest,) = held(cloud, REGIONS[0], f"{prefix}-test/tiny")
    assert digest
    assert [held(cloud, region, f"{prefix}/tiny") for region in REGIONS] == [{digest}, {digest}]
    assert job.environ["RELEASED"] == "yes"


def test_what_fails_its_checks_is_neither_published_nor_promoted(job: Job, cloud: Cloud) -> None:
    (job.folder / "templates/smoke/check_good.py").write_text("echo bad; exit 1\n")
    job.environ["RELEASE"] = "yes"
    job.run()
    assert job.failed == ["build"], job.said
    prefix = job.environ["PREFIX"]
    assert held(cloud, REGIONS[0], f"{prefix}-test/tiny") == {None}
    assert "nothing is promoted: the build failed" in job.said
    assert job.environ["RELEASED"] == "no"


def test_a_stale_recipe_stops_the_job_before_anything_is_built(job: Job) -> None:
    (job.folder / "templates/tiny.Dockerfile.j2").write_text("FROM scratch\n")
    job.run()
    assert job.failed == ["pre_build"], job.said
    assert "rlimages run" not in job.said
