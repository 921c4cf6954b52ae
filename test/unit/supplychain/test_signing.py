"""What runs here in place of cosign is a shell script that writes down how it was called."""

import json
import os
from pathlib import Path

import pytest

from rlimages.errors import RegistryError, ToolError
from rlimages.supplychain.cosign import SignedImage
from rlimages.supplychain.signing import Cosign, Key, sign_image, verify_image
from rlimages.system.process import Stop

SUBJECT = SignedImage(host="127.0.0.1:5000", repository="vw", digest="sha256:" + "ab" * 32)
PROOF = json.dumps(
    [
        {"critical": {"image": {"docker-manifest-digest": SUBJECT.digest}}, "optional": {"rlimages.signed": time}}
        for time in ("2026-01-02", "2026-03-04", "2026-02-03")
    ]
)
PUBLIC = "-----BEGIN PUBLIC KEY-----\na2V5\n-----END PUBLIC KEY-----\n"


@pytest.fixture
def cosign(tmp_path):
    """A program that does what a script says, and keeps its calls in a file."""

    def cosign(script: str) -> tuple[Cosign, Path]:
        calls = tmp_path / "calls"
        calls.touch()
        program = tmp_path / "cosign"
        told = 'echo "$1 $COSIGN_REPOSITORY $DOCKER_CONFIG $COSIGN_PASSWORD"'
        probe = 'case $* in *--use-signing-config*--help) echo "Error: unknown flag: --use-signing-config"; exit 1;; *--help) exit 0;; esac'
        program.write_text(f"#!/bin/sh\n{probe}\n{told} >>{calls}\n{script}\n")
        program.chmod(0o755)
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "COSIGN_REPOSITORY": "elsewhere"}
        return Cosign(tmp_path / "login", environ=environ, stop=Stop()), calls

    return cosign


def test_a_command_knows_where_signatures_lie_and_whose_login_it_has(cosign, tmp_path) -> None:
    program, calls = cosign("")
    program.sign(SUBJECT, Key(name="k", password="word"), {})
    assert calls.read_text() == f"sign 127.0.0.1:5000/vw-signatures {tmp_path}/login word\n"


def test_options_that_a_cosign_has_are_used_and_others_are_not(cosign) -> None:
    program, calls = cosign('echo "$*" >>"$0".words')
    program.sign(SUBJECT, Key(name="k"), {})
    words = (calls.parent / "cosign.words").read_text()
    assert "--new-bundle-format=false" in words
    assert "--use-signing-config" not in words


def test_what_is_signed_is_not_signed_again(cosign, tmp_path) -> None:
    program, calls = cosign(f"echo '{PROOF}'")
    public = tmp_path / "cosign.pub"
    public.write_text(PUBLIC)
    told = sign_image(program, SUBJECT, Key(name="k"), str(public), annotations={})
    assert told.signed == "2026-03-04"
    assert {line.split()[0] for line in calls.read_text().splitlines()} == {"verify"}


def test_nothing_signed_is_said_so(cosign) -> None:
    program, _ = cosign('echo "Error: no signatures found"; exit 10')
    with pytest.raises(RegistryError, match="is not signed by the key"):
        verify_image(program, SUBJECT, "cosign.pub")


def test_a_cosign_that_fails_is_not_taken_for_nothing_signed(cosign) -> None:
    program, _ = cosign('echo "Error: dial tcp: connection refused"; exit 1')
    with pytest.raises(RegistryError, match="failed: dial tcp: connection refused"):
        verify_image(program, SUBJECT, "cosign.pub")


def test_a_machine_without_cosign_is_told_how_to_get_it(tmp_path) -> None:
    program = Cosign(tmp_path, environ={"PATH": str(tmp_path)}, stop=Stop())
    with pytest.raises(ToolError, match="scripts/engine tools"):
        program.public_key(Key(name="k"))
