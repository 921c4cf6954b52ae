import base64
import json
from pathlib import Path

import pytest

from rlimages.errors import RegistryError
from rlimages.supplychain.cosign import (
    COSIGN_3_OPTIONS,
    SBOM_TYPE,
    SignedImage,
    attest_argv,
    cosign_error,
    fingerprint,
    parse_attested_sboms,
    parse_signatures,
    probe_argv,
    remaining_options,
    sign_argv,
    signed_digest,
    verify_argv,
    verify_attestation_argv,
)

HEX = "ab" * 32
LOCAL = SignedImage(host="127.0.0.1:5000", repository="team/vw", digest=f"sha256:{HEX}")
REMOTE = SignedImage(host="1.dkr.ecr.us-west-2.amazonaws.com", repository="team/vw", digest=f"sha256:{HEX}")


def payload(digest: str, **optional: str) -> str:
    image = {"docker-manifest-digest": digest}
    return json.dumps([{"critical": {"identity": {}, "image": image, "type": ""}, "optional": optional or None}])


def envelope(digest: str, predicate: object, kind: str = SBOM_TYPE) -> str:
    subject = [{"name": "x", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    statement = {"predicateType": kind, "subject": subject, "predicate": predicate}
    content = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps({"payloadType": "application/vnd.in-toto+json", "payload": content, "signatures": []})


def test_an_image_is_signed_by_digest_without_a_transparency_log() -> None:
    assert sign_argv(REMOTE, "awskms:///alias/release", {"b": "2", "a": "1"}) == [
        "cosign",
        "sign",
        "--key=awskms:///alias/release",
        "--tlog-upload=false",
        "--yes",
        "--annotations=a=1",
        "--annotations=b=2",
        f"1.dkr.ecr.us-west-2.amazonaws.com/team/vw@sha256:{HEX}",
    ]


def test_a_new_attested_sbom_replaces_the_earlier_one() -> None:
    argv = attest_argv(REMOTE, "k", Path("/x/sbom.json"))
    assert {"--type=cyclonedx", "--predicate=/x/sbom.json", "--replace", "--tlog-upload=false"} < set(argv)
    assert argv[-1] == REMOTE.reference


@pytest.mark.parametrize("build", [verify_argv, verify_attestation_argv])
def test_a_signature_is_verified_without_a_transparency_log(build) -> None:
    assert "--private-infrastructure" in build(REMOTE, "cosign.pub")


def test_plain_http_is_allowed_only_for_a_registry_on_loopback() -> None:
    assert "--allow-http-registry" in verify_argv(LOCAL, "k")
    assert "--allow-http-registry" not in verify_argv(REMOTE, "k")


def test_cosign_3_stores_signatures_as_cosign_2_does() -> None:
    argv = sign_argv(REMOTE, "k", {}, COSIGN_3_OPTIONS)
    assert {"--new-bundle-format=false", "--use-signing-config=false"} < set(argv)


def test_options_that_the_installed_cosign_does_not_have_are_left_out() -> None:
    assert probe_argv("sign", ("--a",)) == ["cosign", "sign", "--a=false", "--help"]
    assert remaining_options("cosign sign failed: unknown flag: --a", ("--a", "--b")) == ("--b",)
    assert remaining_options("cosign sign failed: disk full", ("--a",)) == ("--a",)


def test_signatures_are_in_a_repository_beside_that_of_the_images() -> None:
    assert REMOTE.signatures == "1.dkr.ecr.us-west-2.amazonaws.com/team/vw-signatures"


@pytest.mark.parametrize(
    ("tag", "digest"),
    [(f"sha256-{HEX}.sig", f"sha256:{HEX}"), (f"sha256-{HEX}.att", f"sha256:{HEX}"), ("1.0", None), ("x.sig", None)],
)
def test_the_tag_of_a_signature_contains_the_digest_of_its_image(tag, digest) -> None:
    assert signed_digest(tag) == digest


def test_a_signature_has_the_annotations_that_were_signed_with_the_digest() -> None:
    lines = ["", "Verification for x --", payload(LOCAL.digest, cell="vw"), payload(LOCAL.digest)]
    first, second = parse_signatures(lines, LOCAL.digest)
    assert first.annotations == {"cell": "vw"}
    assert second.annotations == {}


def test_a_signature_of_another_image_is_an_error() -> None:
    with pytest.raises(RegistryError, match=f"a signature under the tag of {LOCAL.digest} is for sha256:00"):
        parse_signatures([payload("sha256:00")], LOCAL.digest)


def test_the_attested_sbom_is_found_among_other_attestations() -> None:
    lines = [
        "WARNING: x",
        envelope(LOCAL.digest, {"n": 1}),
        envelope(LOCAL.digest, {}, "https://slsa.dev/provenance/v1"),
    ]
    assert parse_attested_sboms(lines, LOCAL.digest) == ({"n": 1},)


def test_an_attestation_of_another_image_is_an_error() -> None:
    with pytest.raises(RegistryError, match=f"a signature under the tag of {LOCAL.digest} is for sha256:00"):
        parse_attested_sboms([envelope("sha256:00", {})], LOCAL.digest)


@pytest.mark.parametrize("line", ['[{"critical": 1}]', "["])
def test_a_signature_that_cannot_be_read_is_an_error(line) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        parse_signatures([line], LOCAL.digest)


@pytest.mark.parametrize("line", ['{"payloadType"', '{"x": 1}', envelope(LOCAL.digest, 7)])
def test_an_attestation_that_cannot_be_read_is_an_error(line) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        parse_attested_sboms([line], LOCAL.digest)


def test_a_fingerprint_depends_on_the_key_and_not_on_its_line_breaks() -> None:
    content = base64.b64encode(b"key").decode()
    short = f"-----BEGIN PUBLIC KEY-----\n{content}\n-----END PUBLIC KEY-----\n"
    long = f"-----BEGIN PUBLIC KEY-----\n{content[:2]}\n{content[2:]}\n-----END PUBLIC KEY-----"
    assert fingerprint(short) == fingerprint(long)
    with pytest.raises(RegistryError, match="this is not a public key: it is not in PEM"):
        fingerprint(short.replace("PUBLIC", "PRIVATE"))


def test_the_reason_of_a_failure_is_the_first_error_of_cosign() -> None:
    lines = ["WARNING: x", "Error: signing [a]: denied", "error during command execution: signing [a]: denied"]
    assert cosign_error(lines) == "signing [a]: denied"
    assert cosign_error(["a", "b"]) == "b"
    assert cosign_error([]) == "it failed and printed nothing"
