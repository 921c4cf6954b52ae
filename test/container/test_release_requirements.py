"""Requirements of a target with the command line and AWS on loopback: signatures, SBOMs and scan findings."""

import contextlib
import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import boto3
import pytest
from aws import REGIONS, Cloud, host, secrets
from tiny_project import CELL, REPOSITORY, rlimages, write_project

from rlimages.oci.manifest import Manifest
from rlimages.release.model import RegistryConnection
from rlimages.release.target import connect
from rlimages.release.targets_file import RawEcr, RawTarget

KEY_PASSWORD = "correct-horse-battery"
"""The password of the signing key."""
TAGS = ("tiny-1.0-cpu", "tiny-cpu")
LIST_PACKAGES = r"""set -eu
dpkg-query -W -f='rlimages-inventory: {"kind": "deb", "name": "${Package}", "version": "${Version}", "arch": "${Architecture}", "source": "${source:Package}", "source_version": "${source:Version}", "licenses": []}\n' >/tmp/found
cat /tmp/found
printf 'rlimages-inventory: {"kind": "end", "records": %s}\n' "$(wc -l </tmp/found)"
"""
"""The program that lists the packages of the image: a shell script, because the tiny image has no Python."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@dataclass
class SigningProject:
    """A project of one built cell, with two targets whose images are signed with one key."""

    root: Path
    cloud: Cloud
    prefix: str
    output: str = ""
    """All output of the command line."""
    processes: dict[str, str] = field(default_factory=dict)
    """The environment of each process that the command line started, by its arguments."""

    def __post_init__(self) -> None:
        pre = {"ecr": {"regions": [REGIONS[0]]}, "prefix": f"{self.prefix}-test", "accept": [], "floating": ["*"]}
        production = {"ecr": {"regions": list(REGIONS)}, "prefix": self.prefix, "accept": []}
        signed = {"sign": "cosign.key", "sign_password": "SIGNING_PASSWORD"}
        write_project(
            self.root, {"pre": {**pre, **signed}, "production": {**production, **signed, "promote_from": "pre"}}
        )
        program = self.root / "templates/inventory/list_packages.py"
        program.parent.mkdir()
        program.write_text(LIST_PACKAGES)
        self.make_key()

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the command line. Temporary files are created beside the project, where the tests find them."""
        folders = dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR"), str(self.root.parent))
        return {**self.cloud.environ, **folders, "SIGNING_PASSWORD": KEY_PASSWORD, "MARK": self.prefix}

    def make_key(self) -> None:
        for path in self.root.glob("cosign.*"):
            path.unlink()
        environ = {**os.environ, "COSIGN_PASSWORD": KEY_PASSWORD}
        subprocess.run(["cosign", "generate-key-pair"], cwd=self.root, env=environ, check=True, capture_output=True)

    def try_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command, and record its output and its processes."""
        with record_processes(self.prefix, self.processes):
            result = rlimages(self.root, *arguments, env=self.environ)
        self.output += result.stdout + result.stderr
        return result

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed, and return its standard output."""
        result = self.try_command(*arguments)
        assert result.returncode == 0, result.stderr + result.stdout
        return result.stdout

    def set_options(self, target: str, **options: object) -> None:
        """Change options of a target."""
        targets = json.loads((self.root / "targets.yaml").read_text())
        targets["targets"][target].update(options)
        (self.root / "targets.yaml").write_text(json.dumps(targets))

    def reference(self, tag: str = TAGS[0], region: str = REGIONS[0]) -> str:
        return f"{host(region)}/{self.prefix}/{REPOSITORY}:{tag}"

    @contextlib.contextmanager
    def region(self, name: str) -> Iterator[RegistryConnection]:
        """Connect to the registry of a region, as another client would."""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self.cloud.environ.items():
                patch.setenv(variable, value)
            (connection,) = connect("x", RawTarget(ecr=RawEcr(regions=[name])), [], environ=self.cloud.environ)
            yield connection
            connection.client.close()

    def read_manifest(self, repository: str, tag: str, region: str = REGIONS[0]) -> Manifest | None:
        with self.region(region) as connection:
            return connection.client.read_manifest(repository, tag)

    def tags(self, repository: str, region: str = REGIONS[0]) -> tuple[str, ...]:
        with self.region(region) as connection:
            return connection.client.list_tags(repository)


@contextlib.contextmanager
def record_processes(mark: str, processes: dict[str, str]) -> Iterator[None]:
    """Record arguments and environment of all processes whose environment contains a mark."""
    finished = threading.Event()

    def poll() -> None:
        while not finished.wait(0.03):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    environ = (process / "environ").read_bytes()
                    if mark.encode() in environ:
                        processes[(process / "cmdline").read_bytes().decode(errors="replace")] = environ.decode()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


@pytest.fixture(scope="module")
def make_project(client, cloud, tmp_path_factory):
    def make_project() -> SigningProject:
        project = SigningProject(
            tmp_path_factory.mktemp("signing") / "project", cloud, f"signed-{uuid.uuid4().hex[:12]}"
        )
        project.run("build", "--select", CELL)
        return project

    return make_project


@pytest.fixture(scope="module")
def released(make_project) -> SigningProject:
    project = make_project()
    project.run("publish", "--select", CELL, "--target", "pre")
    project.run("promote", "--select", CELL, "--target", "production")
    return project


def test_a_promoted_image_verifies_in_all_regions_under_all_tags(released) -> None:
    references = [released.reference(tag, region) for tag in TAGS for region in REGIONS]
    output = released.run("verify", *references, "--key", "cosign.pub")
    assert output.count(": verified\n") == 4
    digests = {
        released.read_manifest(f"{released.prefix}/{REPOSITORY}", tag, region).digest
        for tag in TAGS
        for region in REGIONS
    }
    assert len(digests) == 1
    assert output.count(digests.pop()) == 4


def test_signature_and_attestation_are_in_a_separate_repository(released) -> None:
    for prefix, region in ((f"{released.prefix}-test", REGIONS[0]), *((released.prefix, name) for name in REGIONS)):
        digest = released.read_manifest(f"{prefix}/{REPOSITORY}", TAGS[0], region).digest.removeprefix("sha256:")
        signature_tags = released.tags(f"{prefix}/{REPOSITORY}-signatures", region)
        assert signature_tags == (f"sha256-{digest}.att", f"sha256-{digest}.sig")
        assert {tag for tag in released.tags(f"{prefix}/{REPOSITORY}", region) if "smoke" not in tag} >= {*TAGS}
        assert not [tag for tag in released.tags(f"{prefix}/{REPOSITORY}", region) if tag.startswith("sha256-")]


def test_the_sbom_is_saved_and_promoted_unchanged(released) -> None:
    sboms = {path.parent.name: path.read_text() for path in released.root.glob(f".rlimages/releases/*/*/{CELL}.*")}
    assert set(sboms) == {"pre-us-west-2", "production-us-west-2", "production-eu-west-1"}
    contents = {json.dumps(json.loads(text), sort_keys=True) for text in sboms.values()}
    assert len(contents) == 1
    names = {component["name"] for component in json.loads(contents.pop())["components"]}
    assert {"dpkg", "libc6"} <= names


def test_the_reports_have_a_line_for_each_signature_and_sbom(released) -> None:
    path = max(released.root.glob(".rlimages/runs/*/report.json"))
    (cell,) = json.loads(path.read_text())["cells"]
    assert [(result["demand"], result["place"], result["outcome"]) for result in cell["demands"]] == [
        ("signature", "pre/us-west-2", "passed"),
        ("contents", "pre/us-west-2", "passed"),
    ]
    cases = [case.get("name") for case in ElementTree.parse(path.with_name("junit.xml")).iter("testcase")]
    assert {"signature in pre/us-west-2", "contents in pre/us-west-2"} <= {*cases}
    for region in REGIONS:
        assert f"production/{region}: released" in released.output
    assert released.output.count(f"{CELL}: signature passed: by sha256:") == 2


def test_an_unsigned_image_under_a_tag_does_not_verify(released) -> None:
    repository = f"{released.prefix}/{REPOSITORY}"
    with released.region(REGIONS[1]) as connection:
        manifest = connection.client.read_manifest(repository, TAGS[1])
        values = {**json.loads(manifest.content), "annotations": {"changed": "yes"}}
        other = Manifest(content=json.dumps(values).encode(), media_type=manifest.media_type, config=manifest.config)
        connection.client.put_manifest(repository, "changed", other)
    result = released.try_command("verify", released.reference("changed", REGIONS[1]), "--key", "cosign.pub")
    assert result.returncode == 7
    assert f"NOT VERIFIED: {host(REGIONS[1])}/{repository}@{other.digest} is not signed by the key" in result.stdout


def test_no_token_and_no_password_is_in_output_files_or_command_lines(released) -> None:
    commands = {line.split("\0")[0].rpartition("/")[2] + " " + line.split("\0")[1] for line in released.processes}
    assert {"cosign sign", "cosign attest", "cosign verify"} <= commands
    tokens = [secret.decode() for secret in secrets()]
    assert not [line for line in released.processes for secret in (*tokens, KEY_PASSWORD) if secret in line]
    assert not [line for line, environ in released.processes.items() for secret in tokens if secret in environ]
    assert not [secret for secret in (*tokens, KEY_PASSWORD) if secret in released.output]
    files = [path for path in released.root.parent.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "report.json", "junit.xml", "signing.log"} <= {path.name for path in files}
    for secret in (*tokens, KEY_PASSWORD):
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_an_image_signed_with_another_key_is_neither_verified_nor_promoted(make_project) -> None:
    project = make_project()
    project.run("publish", "--select", CELL, "--target", "pre")
    project.make_key()
    reference = project.reference().replace(project.prefix, f"{project.prefix}-test")
    result = project.try_command("verify", reference, "--key", "cosign.pub")
    assert result.returncode == 7
    assert "is not signed by the key cosign.pub" in result.stdout
    result = project.try_command("promote", "--select", CELL, "--target", "production")
    assert result.returncode == 7
    assert "is not signed by the key" in result.stderr
    assert project.tags(f"{project.prefix}/{REPOSITORY}") == ()


def test_a_finding_blocks_a_promotion_until_it_is_waived_and_after_the_waiver_expires(make_project) -> None:
    project = make_project()
    repository = f"{project.prefix}/{REPOSITORY}"
    project.set_options(
        "production", ecr={"regions": [REGIONS[0]]}, scan={"fail_on": "high", "waivers": "waivers.yaml"}
    )
    project.run("publish", "--select", CELL, "--target", "pre")
    tested = project.read_manifest(f"{project.prefix}-test/{REPOSITORY}", TAGS[0])
    options = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGIONS[0]}
    ecr = boto3.client("ecr", endpoint_url=project.cloud.environ["AWS_ENDPOINT_URL"], **options)
    ecr.create_repository(repositoryName=repository)
    # the scan of moto sees only images of its own control plane, and reports one high finding for each
    ecr.put_image(repositoryName=repository, imageManifest=tested.content.decode(), imageDigest=tested.digest)
    waivers = project.root / "waivers.yaml"

    def promote(review_by: str) -> subprocess.CompletedProcess[str]:
        entry = {"id": "CVE-9999-9999", "reason": "of a test", "owner": "me@example.com", "review_by": review_by}
        waivers.write_text(json.dumps({"waivers": [entry] if review_by else []}))
        return project.try_command("promote", "--select", CELL, "--target", "production")

    for review_by in ("", "2026-01-31"):
        result = promote(review_by)
        assert result.returncode == 7, result.stdout + result.stderr
        assert f"{CELL}: CVE-9999-9999 (high) in moto_fake" in result.stdout
        assert f"{CELL}: scan FAILED: " in result.stdout
        assert not {*TAGS} & {*project.tags(repository)}
    assert "me@example.com accepted it until 2026-01-31: review it" in result.stderr
    review_date = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400 * 30))
    result = promote(review_date)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (
        f"waived: CVE-9999-9999 (high) in moto_fake 9.9.9: of a test (me@example.com, until {review_date})"
        in result.stderr
    )
    assert f"{CELL}: scan passed: " in result.stdout
    assert {project.read_manifest(repository, tag).digest for tag in TAGS} == {tested.digest}
