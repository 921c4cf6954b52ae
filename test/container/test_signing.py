"""Sign and verify images with cosign and a registry that requires a login."""

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
from rlimages.supplychain.signing import Cosign, SigningKey, sign_image, verification_key, verify_image
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

PASSWORD = "correct-horse-battery"
TOKEN = "registry-token-of-this-test"
SBOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [{"type": "library", "name": "é"}]}
USER = "AWS:$2b$04$abcdefghijklmnopqrstuuI8dRABgzTEjp9NzbjRLzqW2CZi9cmCW"
"""A line of htpasswd(1) for TOKEN, with the lowest cost of bcrypt."""
image_ids: dict[str, str] = {}
"""The image id of each pushed manifest, by digest."""
ANNOTATIONS = {"rlimages.cell": "vw-9.11.9-cpu"}


class FixedCredentials(Credentials):
    def find(self, _host: str) -> tuple[str, str]:
        return "AWS", TOKEN


@dataclass(frozen=True)
class Keys:
    private: SigningKey
    public: str


@pytest.fixture(scope="module")
def make_keys(tmp_path_factory):
    if not shutil.which("cosign"):
        pytest.fail("there is no cosign; run: scripts/engine tools", pytrace=False)

    def make() -> Keys:
        folder = tmp_path_factory.mktemp("keys")
        environ = {**os.environ, "COSIGN_PASSWORD": PASSWORD}
        subprocess.run(["cosign", "generate-key-pair"], cwd=folder, env=environ, check=True, capture_output=True)
        return Keys(SigningKey(name=str(folder / "cosign.key"), password=PASSWORD), str(folder / "cosign.pub"))

    return make


@pytest.fixture(scope="module")
def keys(make_keys) -> Keys:
    return make_keys()


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[str]:
    """Start a registry for these tests that requires a login."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
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
    return RegistryClient(host, login=RegistryLogin(FixedCredentials()))


@pytest.fixture
def push(registry):
    """Return a function that pushes a new small image to a repository of this test."""
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
            image_ids[manifest.digest] = manifest.image
            return SignedImage(host=registry, repository=repository, digest=manifest.digest)

        yield push


@pytest.fixture
def login(registry) -> Iterator[Path]:
    with temporary_docker_config(FixedCredentials(), [registry], os.environ) as folder:
        yield folder


@pytest.fixture
def program(login, tmp_path, stop) -> Cosign:
    return Cosign(login, context=RunContext(environ=os.environ, stop=stop), log=tmp_path / "signing.log")


@pytest.fixture
def sbom(tmp_path) -> Path:
    path = tmp_path / "sbom.cdx.json"
    path.write_text(json.dumps(SBOM))
    return path


@pytest.fixture
def signed(push, program, keys, sbom) -> SignedImage:
    subject = push("1.0")
    sign_image(program, subject, keys.private, keys.public, annotations=ANNOTATIONS, sbom=sbom)
    return subject


def tags(subject: SignedImage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with direct_to(subject.host) as registry:
        return registry.list_tags(subject.repository), registry.list_tags(signature_repository(subject.repository))


def test_a_signed_image_verifies(signed, program, keys) -> None:
    verification = verify_image(program, signed, keys.public)
    assert verification.sbom == SBOM
    assert verification.annotations["rlimages.cell"] == "vw-9.11.9-cpu"
    assert verification.signed == verification.annotations[SIGNED_ANNOTATION] > "2026"
    assert verification.fingerprint.startswith("sha256:")


def test_the_images_repository_gets_no_tag(signed) -> None:
    images, signatures = tags(signed)
    assert images == ("1.0",)
    assert {signed_digest(tag) for tag in signatures} == {signed.digest}
    assert len(signatures) == 2


def test_signing_again_adds_nothing(signed, program, keys, sbom) -> None:
    with direct_to(signed.host) as registry:
        repository = signature_repository(signed.repository)
        before = {tag: registry.read_manifest(repository, tag).digest for tag in registry.list_tags(repository)}
        sign_image(program, signed, keys.private, keys.public, annotations=ANNOTATIONS, sbom=sbom)
        assert {tag: registry.read_manifest(repository, tag).digest for tag in registry.list_tags(repository)} == before


def test_a_new_sbom_replaces_the_old_one(signed, program, keys, sbom) -> None:
    sbom.write_text(json.dumps({**SBOM, "version": 2}))
    sign_image(program, signed, keys.private, keys.public, annotations=ANNOTATIONS, sbom=sbom)
    assert verify_image(program, signed, keys.public).sbom["version"] == 2


def test_another_image_under_the_same_tag_does_not_verify(signed, push, program, keys) -> None:
    other = push("1.0")
    with pytest.raises(RegistryError, match=f"{other.digest} is not signed by the key"):
        verify_image(program, other, keys.public)


def test_a_signature_moved_to_another_image_does_not_verify(signed, push, program, keys) -> None:
    other = push("2.0")
    repository = signature_repository(signed.repository)
    with direct_to(signed.host) as registry:
        for kind in ("sig", "att"):
            manifest = registry.read_manifest(repository, f"sha256-{signed.digest[7:]}.{kind}")
            registry.put_manifest(repository, f"sha256-{other.digest[7:]}.{kind}", manifest)
    assert program.signature(other, keys.public) is None
    assert program.sbom(other, keys.public) is None


def test_a_signature_does_not_verify_with_another_key(signed, program, make_keys) -> None:
    other = make_keys()
    with pytest.raises(RegistryError, match="is not signed by the key"):
        verify_image(program, signed, other.public)


def test_a_signed_image_without_an_sbom_does_not_verify(push, program, keys) -> None:
    subject = push("1.0")
    assert sign_image(program, subject, keys.private, keys.public, annotations=ANNOTATIONS).sbom is None
    with pytest.raises(RegistryError, match="attests no SBOM of it"):
        verify_image(program, subject, keys.public)


def test_a_wrong_password_signs_nothing(push, program, keys) -> None:
    subject = push("1.0")
    with pytest.raises(RegistryError, match="decryption failed"):
        sign_image(program, subject, replace(keys.private, password="wrong"), keys.public, annotations=ANNOTATIONS)
    assert tags(subject)[1] == ()


def test_an_unreachable_registry_is_an_error_and_does_not_count_as_unsigned(signed, program, keys) -> None:
    with pytest.raises(RegistryError, match="connection refused"):
        verify_image(program, replace(signed, host="127.0.0.1:9"), keys.public)


def test_the_public_key_of_a_private_key_is_that_of_its_file(program, keys, tmp_path) -> None:
    assert Path(verification_key(program, keys.private, tmp_path)).read_text() == Path(keys.public).read_text()


def test_without_credentials_nothing_is_signed(push, keys, stop, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    program = Cosign(tmp_path / "empty", context=RunContext(environ=os.environ, stop=stop))
    with pytest.raises(RegistryError, match=r"UNAUTHORIZED|no basic auth"):
        sign_image(program, push("1.0"), keys.private, keys.public, annotations=ANNOTATIONS)


@pytest.fixture
def verify(login):
    """Return a function that runs `rlimages verify` with the credentials of the registry."""

    def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "rlimages", "verify", *arguments]
        environ = {**os.environ, "DOCKER_CONFIG": str(login)}
        return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)

    return verify


def test_the_command_prints_what_it_verified(signed, keys, verify) -> None:
    reference = f"{signed.host}/{signed.repository}:1.0"
    result = verify(reference, "--key", keys.public)
    assert result.returncode == 0, result.stderr
    assert f"{reference}: verified\n  digest    {signed.digest}\n  signed    2" in result.stdout
    (values,) = json.loads(verify(reference, "--key", keys.public, "--json").stdout)
    assert values["annotations"]["rlimages.cell"] == "vw-9.11.9-cpu"


def test_the_command_fails_for_a_moved_tag_and_still_verifies_the_others(signed, push, keys, verify) -> None:
    push("2.0")
    moved = push("1.0")
    by_digest = signed.reference
    result = verify(
        f"{signed.host}/{signed.repository}:1.0", by_digest, f"{signed.host}/nothing:1.0", "--key", keys.public
    )
    assert result.returncode == 7
    first, second, *_, last = result.stdout.splitlines()
    assert "NOT VERIFIED" in first
    assert moved.digest in first
    assert second == f"{by_digest}: verified"
    assert last.endswith("NOT VERIFIED: " + f"{signed.host}/nothing:1.0 does not exist")


def test_the_attested_sbom_must_be_that_of_the_image(push, program, keys, sbom, verify) -> None:
    image, other = push("1.0"), push("2.0")
    properties = [{"name": "rlimages:image", "value": image_ids[image.digest]}]
    sbom.write_text(json.dumps({**SBOM, "metadata": {"component": {"properties": properties}}}))
    for subject in (image, other):
        sign_image(program, subject, keys.private, keys.public, annotations=ANNOTATIONS, sbom=sbom)
    assert verify(image.reference, "--key", keys.public).returncode == 0
    result = verify(other.reference, "--key", keys.public)
    assert result.returncode == 7
    assert (
        f"is the image {image_ids[other.digest]}, but the attested SBOM is that of {image_ids[image.digest]}"
        in result.stdout
    )


def test_no_password_is_on_a_command_line_in_the_log_or_in_a_file(push, keys, sbom, registry, tmp_path) -> None:
    command_lines: set[str] = set()
    finished = threading.Event()

    def poll() -> None:
        while not finished.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    command_lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        with temporary_docker_config(FixedCredentials(), [registry], os.environ) as login:
            assert login.stat().st_mode & 0o777 == 0o700
            assert (login / "config.json").stat().st_mode & 0o777 == 0o600
            program = Cosign(login, context=RunContext(environ=os.environ, stop=Stop()), log=tmp_path / "signing.log")
            sign_image(program, push("1.0"), keys.private, keys.public, annotations=ANNOTATIONS, sbom=sbom)
    finally:
        finished.set()
        thread.join()
    commands = [line for line in command_lines if line.startswith("cosign ")]
    assert any(line.startswith("cosign sign ") for line in commands)
    secrets = (PASSWORD, TOKEN, "QVdTOn")  # the last one is the start of "AWS:..." in base64
    assert not [line for line in command_lines for secret in secrets if secret in line]
    assert not login.exists()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not any(secret.encode() in path.read_bytes() for secret in secrets)


def test_credentials_are_deleted_when_signing_is_interrupted(push, keys, registry) -> None:
    stop = Stop()
    stop.set()
    context = RunContext(environ=os.environ, stop=stop)
    with pytest.raises(Interrupted), temporary_docker_config(FixedCredentials(), [registry], os.environ) as login:
        sign_image(Cosign(login, context=context), push("1.0"), keys.private, keys.public, annotations=ANNOTATIONS)
    assert not login.exists()


def test_credentials_are_deleted_after_sigterm_while_a_registry_does_not_answer(keys, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        image = f"SignedImage(host='127.0.0.1:{silent_server.getsockname()[1]}', repository='vw', digest='sha256:{'0' * 64}')"
        script = (
            "import os\nfrom rlimages.registry.auth import Credentials, temporary_docker_config\n"
            "from rlimages.supplychain.cosign import SignedImage\n"
            "from rlimages.supplychain.signing import Cosign\n"
            "from rlimages.system.context import RunContext\n"
            "from rlimages.system.process import Stop, stopping_on_signals\n"
            "class FixedCredentials(Credentials):\n    def find(self, host):\n        return 'AWS', 'x'\n"
            "stop = Stop()\n"
            "with stopping_on_signals(stop), temporary_docker_config(FixedCredentials(), ['x'], os.environ) as login:\n"
            "    print(login, flush=True)\n"
            "    context = RunContext(environ=os.environ, stop=stop)\n"
            f"    Cosign(login, context=context).signature({image}, {keys.public!r})\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            login = Path(process.stdout.readline().strip())
            silent_server.settimeout(60)
            with silent_server.accept()[0]:
                assert (login / "config.json").exists()
                process.terminate()
                _, stderr = process.communicate(timeout=60)
    assert "Interrupted" in stderr
    assert not login.exists()


def test_credentials_of_a_killed_process_are_deleted_by_the_next_one(registry) -> None:
    leftover = secrets_folder(os.environ) / f"{CONFIG_PREFIX}{os.uname().nodename}:999999999:1-abc"
    leftover.mkdir(mode=0o700)
    with temporary_docker_config(FixedCredentials(), [registry], os.environ):
        assert not leftover.exists()
