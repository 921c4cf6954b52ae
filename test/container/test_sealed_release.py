"""What a target demands of images, by the command line and against AWS on loopback: signatures, contents, findings."""

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
from tiny_project import CELL, rlimages, write

from rlimages.oci.manifest import Manifest
from rlimages.release.model import RegistryConnection
from rlimages.release.target import connect
from rlimages.release.targets_file import RawEcr, RawTarget

WORD = "correct-horse-battery"
"""The password of the key."""
TAGS = ("tiny-1.0-cpu", "tiny-cpu")
LIST_PACKAGES = r"""set -eu
dpkg-query -W -f='rlimages-inventory: {"kind": "deb", "name": "${Package}", "version": "${Version}", "arch": "${Architecture}", "source": "${source:Package}", "source_version": "${source:Version}", "licenses": []}\n' >/tmp/found
cat /tmp/found
printf 'rlimages-inventory: {"kind": "end", "records": %s}\n' "$(wc -l </tmp/found)"
"""
"""The tiny image has no Python to look into it with: a shell asks dpkg."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("aws"))
    yield cloud
    cloud.close()


@dataclass
class Bench:
    """A project whose tiny cell is built, with two targets whose images are signed by one key."""

    root: Path
    cloud: Cloud
    prefix: str
    said: str = ""
    """All that the command line printed."""
    seen: dict[str, str] = field(default_factory=dict)
    """Command line of each process of it -> its environment."""

    def __post_init__(self) -> None:
        pre = {"ecr": {"regions": [REGIONS[0]]}, "prefix": f"{self.prefix}-test", "accept": [], "floating": ["*"]}
        production = {"ecr": {"regions": list(REGIONS)}, "prefix": self.prefix, "accept": []}
        signed = {"sign": "cosign.key", "sign_password": "SIGNING_WORD"}
        write(self.root, {"pre": {**pre, **signed}, "production": {**production, **signed, "promote_from": "pre"}})
        program = self.root / "templates/inventory/list_packages.py"
        program.parent.mkdir()
        program.write_text(LIST_PACKAGES)
        self.make_key()

    @property
    def environ(self) -> dict[str, str]:
        """Whatever is left behind is left in the project, or beside it."""
        places = dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR"), str(self.root.parent))
        return {**self.cloud.environ, **places, "SIGNING_WORD": WORD, "BENCH": self.prefix}

    def make_key(self) -> None:
        for path in self.root.glob("cosign.*"):
            path.unlink()
        environ = {**os.environ, "COSIGN_PASSWORD": WORD}
        subprocess.run(["cosign", "generate-key-pair"], cwd=self.root, env=environ, check=True, capture_output=True)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        with watching(self.prefix, self.seen):
            ended = rlimages(self.root, *words, env=self.environ)
        self.said += ended.stdout + ended.stderr
        return ended

    def do(self, *words: str) -> str:
        ended = self.ask(*words)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    def demand(self, target: str, **words: object) -> None:
        """Change what a target says."""
        told = json.loads((self.root / "targets.yaml").read_text())
        told["targets"][target].update(words)
        (self.root / "targets.yaml").write_text(json.dumps(told))

    def reference(self, tag: str = TAGS[0], region: str = REGIONS[0]) -> str:
        return f"{host(region)}/{self.prefix}/tiny:{tag}"

    @contextlib.contextmanager
    def region(self, name: str) -> Iterator[RegistryConnection]:
        """A region's registry, as somebody else would reach it."""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self.cloud.environ.items():
                patch.setenv(variable, value)
            (connection,) = connect("x", RawTarget(ecr=RawEcr(regions=[name])), [], environ=self.cloud.environ)
            yield connection
            connection.client.close()

    def held(self, repository: str, tag: str, region: str = REGIONS[0]) -> Manifest | None:
        with self.region(region) as connection:
            return connection.client.read_manifest(repository, tag)

    def tags(self, repository: str, region: str = REGIONS[0]) -> tuple[str, ...]:
        with self.region(region) as connection:
            return connection.client.list_tags(repository)


@contextlib.contextmanager
def watching(mark: str, seen: dict[str, str]) -> Iterator[None]:
    """Note the processes whose environment has a mark: what each was started with."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.03):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    environ = (process / "environ").read_bytes()
                    if mark.encode() in environ:
                        seen[(process / "cmdline").read_bytes().decode(errors="replace")] = environ.decode()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@pytest.fixture(scope="module")
def make(client, cloud, tmp_path_factory):
    def make() -> Bench:
        bench = Bench(tmp_path_factory.mktemp("bench") / "project", cloud, f"sealed-{uuid.uuid4().hex[:12]}")
        bench.do("build", "--select", CELL)
        return bench

    return make


@pytest.fixture(scope="module")
def released(make) -> Bench:
    bench = make()
    bench.do("publish", "--select", CELL, "--target", "pre")
    bench.do("promote", "--select", CELL, "--target", "production")
    return bench


def test_what_was_published_and_promoted_verifies_in_all_regions_by_all_tags(released) -> None:
    references = [released.reference(tag, region) for tag in TAGS for region in REGIONS]
    said = released.do("verify", *references, "--key", "cosign.pub")
    assert said.count(": verified\n") == 4
    digests = {released.held(f"{released.prefix}/tiny", tag, region).digest for tag in TAGS for region in REGIONS}
    assert len(digests) == 1
    assert said.count(digests.pop()) == 4


def test_signature_and_attestation_lie_beside_the_images_and_not_among_them(released) -> None:
    for prefix, region in ((f"{released.prefix}-test", REGIONS[0]), *((released.prefix, name) for name in REGIONS)):
        bare = released.held(f"{prefix}/tiny", TAGS[0], region).digest.removeprefix("sha256:")
        beside = released.tags(f"{prefix}/tiny-signatures", region)
        assert beside == (f"sha256-{bare}.att", f"sha256-{bare}.sig")
        assert {tag for tag in released.tags(f"{prefix}/tiny", region) if "smoke" not in tag} >= {*TAGS}
        assert not [tag for tag in released.tags(f"{prefix}/tiny", region) if tag.startswith("sha256-")]


def test_the_bill_of_materials_is_saved_and_promoted_as_it_is(released) -> None:
    saved = {path.parent.name: path.read_text() for path in released.root.glob(f".rlimages/releases/*/*/{CELL}.*")}
    assert set(saved) == {"pre-us-west-2", "production-us-west-2", "production-eu-west-1"}
    told = {json.dumps(json.loads(text), sort_keys=True) for text in saved.values()}
    assert len(told) == 1
    names = {component["name"] for component in json.loads(told.pop())["components"]}
    assert {"dpkg", "libc6"} <= names


def test_the_reports_have_a_line_for_each_signature_and_each_bill_of_materials(released) -> None:
    path = max(released.root.glob(".rlimages/runs/*/report.json"))
    (cell,) = json.loads(path.read_text())["cells"]
    assert [(told["demand"], told["place"], told["outcome"]) for told in cell["demands"]] == [
        ("signature", "pre/us-west-2", "passed"),
        ("contents", "pre/us-west-2", "passed"),
    ]
    cases = [case.get("name") for case in ElementTree.parse(path.with_name("junit.xml")).iter("testcase")]
    assert {"signature in pre/us-west-2", "contents in pre/us-west-2"} <= {*cases}
    for region in REGIONS:
        assert f"production/{region}: released" in released.said
    assert released.said.count(f"{CELL}: signature passed: by sha256:") == 2


def test_an_image_that_somebody_put_under_a_tag_does_not_verify(released) -> None:
    repository = f"{released.prefix}/tiny"
    with released.region(REGIONS[1]) as connection:
        held = connection.client.read_manifest(repository, TAGS[1])
        words = {**json.loads(held.content), "annotations": {"changed": "yes"}}
        other = Manifest(content=json.dumps(words).encode(), media_type=held.media_type, config=held.config)
        connection.client.put_manifest(repository, "changed", other)
    ended = released.ask("verify", released.reference("changed", REGIONS[1]), "--key", "cosign.pub")
    assert ended.returncode == 7
    assert f"NOT VERIFIED: {host(REGIONS[1])}/{repository}@{other.digest} is not signed by the key" in ended.stdout


def test_no_token_and_no_password_is_said_or_left_behind_or_seen_by_other_processes(released) -> None:
    commands = {line.split("\0")[0].rpartition("/")[2] + " " + line.split("\0")[1] for line in released.seen}
    assert {"cosign sign", "cosign attest", "cosign verify"} <= commands
    token = [secret.decode() for secret in secrets()]
    assert not [line for line in released.seen for secret in (*token, WORD) if secret in line]
    assert not [line for line, environ in released.seen.items() for secret in token if secret in environ]
    assert not [secret for secret in (*token, WORD) if secret in released.said]
    files = [path for path in released.root.parent.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "report.json", "junit.xml", "signing.log"} <= {path.name for path in files}
    for secret in (*token, WORD):
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_what_another_key_signed_is_neither_verified_nor_promoted(make) -> None:
    bench = make()
    bench.do("publish", "--select", CELL, "--target", "pre")
    bench.make_key()
    reference = bench.reference().replace(bench.prefix, f"{bench.prefix}-test")
    ended = bench.ask("verify", reference, "--key", "cosign.pub")
    assert ended.returncode == 7
    assert "is not signed by the key cosign.pub" in ended.stdout
    ended = bench.ask("promote", "--select", CELL, "--target", "production")
    assert ended.returncode == 7
    assert "is not signed by the key" in ended.stderr
    assert bench.tags(f"{bench.prefix}/tiny") == ()


def test_a_finding_stands_in_the_way_until_somebody_accepts_it_and_again_when_that_has_ended(make) -> None:
    bench = make()
    repository = f"{bench.prefix}/tiny"
    bench.demand("production", ecr={"regions": [REGIONS[0]]}, scan={"fail_on": "high", "waivers": "waivers.yaml"})
    bench.do("publish", "--select", CELL, "--target", "pre")
    tested = bench.held(f"{bench.prefix}-test/tiny", TAGS[0])
    words = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGIONS[0]}
    ecr = boto3.client("ecr", endpoint_url=bench.cloud.environ["AWS_ENDPOINT_URL"], **words)
    ecr.create_repository(repositoryName=repository)
    # moto's scanner knows only what moto was given, and finds one thing of high severity in each image
    ecr.put_image(repositoryName=repository, imageManifest=tested.content.decode(), imageDigest=tested.digest)
    waivers = bench.root / "waivers.yaml"

    def promote(review_by: str) -> subprocess.CompletedProcess[str]:
        entry = {"id": "CVE-9999-9999", "reason": "of a test", "owner": "me@example.com", "review_by": review_by}
        waivers.write_text(json.dumps({"waivers": [entry] if review_by else []}))
        return bench.ask("promote", "--select", CELL, "--target", "production")

    for review_by in ("", "2026-01-31"):
        ended = promote(review_by)
        assert ended.returncode == 7, ended.stdout + ended.stderr
        assert f"{CELL}: CVE-9999-9999 (high) in moto_fake" in ended.stdout
        assert f"{CELL}: scan FAILED: " in ended.stdout
        assert not {*TAGS} & {*bench.tags(repository)}
    assert "me@example.com accepted it until 2026-01-31: review it" in ended.stderr
    later = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400 * 30))
    ended = promote(later)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"waived: CVE-9999-9999 (high) in moto_fake 9.9.9: of a test (me@example.com, until {later})" in ended.stderr
    assert f"{CELL}: scan passed: " in ended.stdout
    assert {bench.held(repository, tag).digest for tag in TAGS} == {tested.digest}
