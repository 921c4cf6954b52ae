"""Real cosign and a real registry: what is signed verifies, and nothing else does."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.labels import SIGNED_ANNOTATION
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, compose_manifest, sha256_digest
from rlimages.registry.auth import CONFIG_PREFIX, Credentials, RegistryLogin, secrets_folder, temporary_docker_config
from rlimages.registry.client import RegistryClient
from rlimages.registry.http import is_reachable
from rlimages.supplychain.cosign import SignedImage, signature_repository, signed_digest
from rlimages.supplychain.signing import Cosign, Key, public_key, sign_image, verify_image
from rlimages.system.process import Stop

PASSWORD = "correct-horse-battery"
TOKEN = "registry-token-of-this-test"
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [{"type": "library", "name": "é"}]}
USER = "AWS:$2b$04$abcdefghijklmnopqrstuuI8dRABgzTEjp9NzbjRLzqW2CZi9cmCW"
"""A line of htpasswd(1) for TOKEN, hashed as cheaply as bcrypt can."""
ids: dict[str, str] = {}
"""Digest of a pushed manifest -> the image's id."""
WORDS = {"rlimages.cell": "vw-9.11.9-cpu"}


class Known(Credentials):
    def find(self, _host: str) -> tuple[str, str]:
        return "AWS", TOKEN


@dataclass(frozen=True)
class Keys:
    key: Key
    public: str


@pytest.fixture(scope="module")
def make_keys(tmp_path_factory):
    if not shutil.which("cosign"):
        pytest.fail("there is no cosign; run: scripts/engine tools", pytrace=False)

    def make() -> Keys:
        folder = tmp_path_factory.mktemp("keys")
        environ = {**os.environ, "COSIGN_PASSWORD": PASSWORD}
        subprocess.run(["cosign", "generate-key-pair"], cwd=folder, env=environ, check=True, capture_output=True)
        return Keys(Key(name=str(folder / "cosign.key"), password=PASSWORD), str(folder / "cosign.pub"))

    return make


@pytest.fixture(scope="module")
def keys(make_keys) -> Keys:
    return make_keys()


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[str]:
    """A registry for these tests alone, which wants a login."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "users").write_text(f"{USER}\n")
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "users")}},
        "http": {"addr": host},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        for _ in range(200):
            if is_reachable(host):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"no registry came up at {host}", pytrace=False)
        yield host
    finally:
        process.terminate()
        process.wait()


def direct_to(host: str) -> RegistryClient:
    return RegistryClient(host, login=RegistryLogin(Known()))


@pytest.fixture
def push(registry):
    """Push a new small image under a tag of a repository of this test's own."""
    repository = f"rlimages-test-signing/{time.time_ns()}"
    with direct_to(registry) as direct:

        def push(tag: str) -> SignedImage:
            own = f"{repository} {time.time_ns()}".encode()
            config = json.dumps({"os": "linux", "architecture": "amd64", "name": own.decode()}).encode()
            layer = Blob(media_type=DOCKER_LAYER, digest=sha256_digest(own), size=len(own))
            manifest = compose_manifest(
                Blob(media_type=DOCKER_CONFIG, digest=sha256_digest(config), size=len(config)), [layer]
            )
            for blob, content in zip(manifest.blobs, (own, config), strict=True):
                direct.upload_blob(repository, blob, lambda content=content: iter([content]))
            direct.put_manifest(repository, tag, manifest)
            ids[manifest.digest] = manifest.image
            return SignedImage(host=registry, repository=repository, digest=manifest.digest)

        yield push


@pytest.fixture
def login(registry) -> Iterator[Path]:
    with temporary_docker_config(Known(), [registry], os.environ) as folder:
        yield folder


@pytest.fixture
def program(login, tmp_path, stop) -> Cosign:
    return Cosign(login, environ=os.environ, stop=stop, log=tmp_path / "signing.log")


@pytest.fixture
def bom(tmp_path) -> Path:
    path = tmp_path / "bom.cdx.json"
    path.write_text(json.dumps(BOM))
    return path


@pytest.fixture
def signed(push, program, keys, bom) -> SignedImage:
    subject = push("1.0")
    sign_image(program, subject, keys.key, keys.public, annotations=WORDS, bom=bom)
    return subject


def tags(subject: SignedImage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with direct_to(subject.host) as registry:
        return registry.list_tags(subject.repository), registry.list_tags(signature_repository(subject.repository))


def test_what_was_signed_verifies(signed, program, keys) -> None:
    told = verify_image(program, signed, keys.public)
    assert told.bom == BOM
    assert told.annotations["rlimages.cell"] == "vw-9.11.9-cpu"
    assert told.signed == told.annotations[SIGNED_ANNOTATION] > "2026"
    assert told.fingerprint.startswith("sha256:")


def test_the_images_repository_gets_no_tag(signed) -> None:
    images, signatures = tags(signed)
    assert images == ("1.0",)
    assert {signed_digest(tag) for tag in signatures} == {signed.digest}
    assert len(signatures) == 2


def test_signing_again_adds_nothing(signed, program, keys, bom) -> None:
    with direct_to(signed.host) as registry:
        where = signature_repository(signed.repository)
        before = {tag: registry.read_manifest(where, tag).digest for tag in registry.list_tags(where)}
        sign_image(program, signed, keys.key, keys.public, annotations=WORDS, bom=bom)
        assert {tag: registry.read_manifest(where, tag).digest for tag in registry.list_tags(where)} == before


def test_what_a_new_bill_of_materials_says_replaces_the_old_one(signed, program, keys, bom) -> None:
    bom.write_text(json.dumps({**BOM, "version": 2}))
    sign_image(program, signed, keys.key, keys.public, annotations=WORDS, bom=bom)
    assert verify_image(program, signed, keys.public).bom["version"] == 2


def test_another_image_under_the_same_tag_does_not_verify(signed, push, program, keys) -> None:
    other = push("1.0")
    with pytest.raises(RegistryError, match=f"{other.digest} is not signed by the key"):
        verify_image(program, other, keys.public)


def test_a_signature_moved_to_another_image_does_not_verify(signed, push, program, keys) -> None:
    other = push("2.0")
    where = signature_repository(signed.repository)
    with direct_to(signed.host) as registry:
        for kind in ("sig", "att"):
            held = registry.read_manifest(where, f"sha256-{signed.digest[7:]}.{kind}")
            registry.put_manifest(where, f"sha256-{other.digest[7:]}.{kind}", held)
    assert program.signature(other, keys.public) is None
    assert program.bom(other, keys.public) is None


def test_another_key_did_not_sign(signed, program, make_keys) -> None:
    other = make_keys()
    with pytest.raises(RegistryError, match="is not signed by the key"):
        verify_image(program, signed, other.public)


def test_signed_without_a_bill_of_materials_is_not_enough(push, program, keys) -> None:
    subject = push("1.0")
    assert sign_image(program, subject, keys.key, keys.public, annotations=WORDS).bom is None
    with pytest.raises(RegistryError, match="attests no bill of materials"):
        verify_image(program, subject, keys.public)


def test_a_wrong_password_signs_nothing(push, program, keys) -> None:
    subject = push("1.0")
    with pytest.raises(RegistryError, match="decryption failed"):
        sign_image(program, subject, replace(keys.key, password="wrong"), keys.public, annotations=WORDS)
    assert tags(subject)[1] == ()


def test_a_registry_that_is_not_there_is_said_so_and_not_taken_for_unsigned(signed, program, keys) -> None:
    with pytest.raises(RegistryError, match="connection refused"):
        verify_image(program, replace(signed, host="127.0.0.1:9"), keys.public)


def test_the_public_half_of_a_key_is_what_its_file_says(program, keys, tmp_path) -> None:
    assert Path(public_key(program, keys.key, tmp_path)).read_text() == Path(keys.public).read_text()


def test_without_a_login_nothing_is_signed(push, keys, stop, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    program = Cosign(tmp_path / "empty", environ=os.environ, stop=stop)
    with pytest.raises(RegistryError, match=r"UNAUTHORIZED|no basic auth"):
        sign_image(program, push("1.0"), keys.key, keys.public, annotations=WORDS)


@pytest.fixture
def ask(login):
    """Run the verb `verify` as a person who has logged in."""

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "rlimages", "verify", *words]
        environ = {**os.environ, "DOCKER_CONFIG": str(login)}
        return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)

    return ask


def test_the_verb_says_what_it_verified(signed, keys, ask) -> None:
    reference = f"{signed.host}/{signed.repository}:1.0"
    said = ask(reference, "--key", keys.public)
    assert said.returncode == 0, said.stderr
    assert f"{reference}: verified\n  digest    {signed.digest}\n  signed    2" in said.stdout
    (told,) = json.loads(ask(reference, "--key", keys.public, "--json").stdout)
    assert told["annotations"]["rlimages.cell"] == "vw-9.11.9-cpu"


def test_the_verb_fails_for_a_tag_that_was_moved_and_still_judges_the_others(signed, push, keys, ask) -> None:
    push("2.0")
    moved = push("1.0")
    by_digest = signed.reference
    said = ask(f"{signed.host}/{signed.repository}:1.0", by_digest, f"{signed.host}/nothing:1.0", "--key", keys.public)
    assert said.returncode == 7
    first, second, *_, last = said.stdout.splitlines()
    assert "NOT VERIFIED" in first
    assert moved.digest in first
    assert second == f"{by_digest}: verified"
    assert last.endswith("NOT VERIFIED: " + f"{signed.host}/nothing:1.0 is not there")


def test_what_is_attested_must_be_this_images(push, program, keys, bom, ask) -> None:
    mine, other = push("1.0"), push("2.0")
    properties = [{"name": "rlimages:image", "value": ids[mine.digest]}]
    bom.write_text(json.dumps({**BOM, "metadata": {"component": {"properties": properties}}}))
    for subject in (mine, other):
        sign_image(program, subject, keys.key, keys.public, annotations=WORDS, bom=bom)
    assert ask(mine.reference, "--key", keys.public).returncode == 0
    said = ask(other.reference, "--key", keys.public)
    assert said.returncode == 7
    assert f"attested as its contents is {ids[mine.digest]}'s" in said.stdout


def test_no_password_is_on_a_command_line_in_a_log_or_left_in_a_file(push, keys, bom, registry, tmp_path) -> None:
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with temporary_docker_config(Known(), [registry], os.environ) as login:
            assert login.stat().st_mode & 0o777 == 0o700
            assert (login / "config.json").stat().st_mode & 0o777 == 0o600
            program = Cosign(login, environ=os.environ, stop=Stop(), log=tmp_path / "signing.log")
            sign_image(program, push("1.0"), keys.key, keys.public, annotations=WORDS, bom=bom)
    finally:
        done.set()
        watcher.join()
    commands = [line for line in seen if line.startswith("cosign ")]
    assert any(line.startswith("cosign sign ") for line in commands)
    secrets = (PASSWORD, TOKEN, "QVdTOn")  # the last one is how "AWS:" begins in base64
    assert not [line for line in seen for secret in secrets if secret in line]
    assert not login.exists()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not any(secret.encode() in path.read_bytes() for secret in secrets)


def test_a_login_goes_away_when_signing_is_interrupted(push, keys, registry) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted), temporary_docker_config(Known(), [registry], os.environ) as login:
        sign_image(Cosign(login, environ=os.environ, stop=stop), push("1.0"), keys.key, keys.public, annotations=WORDS)
    assert not login.exists()


def test_a_login_goes_away_after_sigterm_while_a_registry_says_nothing(keys, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        subject = f"Subject(host='127.0.0.1:{mute.getsockname()[1]}', repository='vw', digest='sha256:{'0' * 64}')"
        script = (
            "import os\nfrom rlimages import shell\nfrom rlimages.cosign import Subject\n"
            "from rlimages.lending import docker_config\nfrom rlimages.login import Credentials\n"
            "from rlimages.signing import Cosign\n"
            "class Known(Credentials):\n    def find(self, host):\n        return 'AWS', 'x'\n"
            "stop = shell.Stop()\n"
            "with shell.stopping_on_signals(stop), docker_config(Known(), ['x'], os.environ) as login:\n"
            "    print(login, flush=True)\n"
            f"    Cosign(login, environ=os.environ, stop=stop).signature({subject}, {keys.public!r})\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            login = Path(process.stdout.readline().strip())
            mute.settimeout(60)
            with mute.accept()[0]:
                assert (login / "config.json").exists()
                process.terminate()
                _, said = process.communicate(timeout=60)
    assert "Interrupted" in said
    assert not login.exists()


def test_what_a_killed_process_left_is_removed_by_the_next(registry) -> None:
    left = secrets_folder(os.environ) / f"{CONFIG_PREFIX}{os.uname().nodename}:999999999:1-abc"
    left.mkdir(mode=0o700)
    with temporary_docker_config(Known(), [registry], os.environ):
        assert not left.exists()
