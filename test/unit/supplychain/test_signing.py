"""A shell script stands for cosign, and writes its calls to a file."""

import json
import os
from pathlib import Path

import pytest

from rlimages.errors import RegistryError, ToolError, UsageError
from rlimages.registry.repository_settings import RawRepositories
from rlimages.supplychain.cosign import SignedImage
from rlimages.supplychain.signing import (
    Cosign,
    SigningKey,
    sign_image,
    signature_repositories,
    signing_key,
    verify_image,
)
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

IMAGE = SignedImage(host="127.0.0.1:5000", repository="vw", digest="sha256:" + "ab" * 32)
SIGNATURES = json.dumps(
    [
        {"critical": {"image": {"docker-manifest-digest": IMAGE.digest}}, "optional": {"rlimages.signed": time}}
        for time in ("2026-01-02", "2026-03-04", "2026-02-03")
    ]
)
PUBLIC = "-----BEGIN PUBLIC KEY-----\na2V5\n-----END PUBLIC KEY-----\n"


@pytest.fixture
def cosign(tmp_path):
    """Return a function that makes a cosign from a script; it returns the file with its calls too."""

    def cosign(script: str) -> tuple[Cosign, Path]:
        calls = tmp_path / "calls"
        calls.touch()
        program = tmp_path / "cosign"
        record = 'echo "$1 $COSIGN_REPOSITORY $DOCKER_CONFIG $COSIGN_PASSWORD"'
        probe = 'case $* in *--use-signing-config*--help) echo "Error: unknown flag: --use-signing-config"; exit 1;; *--help) exit 0;; esac'
        program.write_text(f"#!/bin/sh\n{probe}\n{record} >>{calls}\n{script}\n")
        program.chmod(0o755)
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "COSIGN_REPOSITORY": "elsewhere"}
        return Cosign(tmp_path / "login", context=RunContext(environ=environ, stop=Stop())), calls

    return cosign


def test_a_command_gets_the_repository_of_signatures_the_credentials_and_the_password(cosign, tmp_path) -> None:
    program, calls = cosign("")
    program.sign(IMAGE, SigningKey(name="k", password="word"), {})
    assert calls.read_text() == f"sign 127.0.0.1:5000/vw-signatures {tmp_path}/login word\n"


def test_only_options_that_the_installed_cosign_has_are_used(cosign) -> None:
    program, calls = cosign('echo "$*" >>"$0".words')
    program.sign(IMAGE, SigningKey(name="k"), {})
    words = (calls.parent / "cosign.words").read_text()
    assert "--new-bundle-format=false" in words
    assert "--use-signing-config" not in words


def test_a_signed_image_is_not_signed_again_and_has_the_newest_signature(cosign, tmp_path) -> None:
    program, calls = cosign(f"echo '{SIGNATURES}'")
    public = tmp_path / "cosign.pub"
    public.write_text(PUBLIC)
    verification = sign_image(program, IMAGE, SigningKey(name="k"), str(public), annotations={})
    assert verification.signed == "2026-03-04"
    assert {line.split()[0] for line in calls.read_text().splitlines()} == {"verify"}


def test_an_unsigned_image_is_an_error(cosign) -> None:
    program, _ = cosign('echo "Error: no signatures found"; exit 10')
    with pytest.raises(RegistryError, match="is not signed by the key"):
        verify_image(program, IMAGE, "cosign.pub")


def test_a_failure_of_cosign_does_not_count_as_unsigned(cosign) -> None:
    program, _ = cosign('echo "Error: dial tcp: connection refused"; exit 1')
    with pytest.raises(RegistryError, match="failed: dial tcp: connection refused"):
        verify_image(program, IMAGE, "cosign.pub")


def test_a_missing_cosign_is_an_error_with_a_remedy(tmp_path) -> None:
    program = Cosign(tmp_path, context=RunContext(environ={"PATH": str(tmp_path)}, stop=Stop()))
    with pytest.raises(ToolError, match="scripts/engine tools"):
        program.public_key(SigningKey(name="k"))


def test_the_repr_of_a_key_has_no_password() -> None:
    key = signing_key("k", "PASSWORD", {"PASSWORD": "secret"})
    assert key.password == "secret"
    assert "secret" not in repr(key)


def test_a_password_variable_that_is_not_set_is_an_error() -> None:
    assert signing_key("awskms:///alias/x", None, {}).password == ""
    with pytest.raises(UsageError, match="the password in PASSWORD, which is not set"):
        signing_key("k", "PASSWORD", {})


def test_repositories_of_signatures_have_movable_tags_and_no_lifecycle_policy() -> None:
    settings = signature_repositories(RawRepositories(lifecycle={"rules": []}, tags={"team": "rl"}))
    assert (settings.immutable, settings.scan_on_push, settings.lifecycle) == (False, False, None)
    assert settings.tags == {"team": "rl"}
