import base64
import json
import stat
from pathlib import Path

import pytest

from rlimages.errors import RegistryError, UsageError
from rlimages.registry.auth import CONFIG_PREFIX, Credentials, temporary_docker_config
from rlimages.registry.repository_settings import RawRepositories
from rlimages.supplychain.cosign import (
    OPTIONAL,
    SBOM_TYPE,
    SignedImage,
    attest_argv,
    attested_sboms,
    cosign_error,
    fingerprint,
    parse_signatures,
    probe_argv,
    remaining_options,
    sign_argv,
    signed_digest,
    verify_argv,
    verify_attestation_argv,
)
from rlimages.supplychain.signing import signature_repositories, signing_key
from rlimages.system.process import this_process

HEX = "ab" * 32
NEAR = SignedImage(host="127.0.0.1:5000", repository="team/vw", digest=f"sha256:{HEX}")
FAR = SignedImage(host="1.dkr.ecr.us-west-2.amazonaws.com", repository="team/vw", digest=f"sha256:{HEX}")


class Known(Credentials):
    def find(self, host: str) -> tuple[str, str] | None:
        return ("AWS", "a:b") if host == FAR.host else None


def payload(digest: str, **optional: str) -> str:
    image = {"docker-manifest-digest": digest}
    return json.dumps([{"critical": {"identity": {}, "image": image, "type": ""}, "optional": optional or None}])


def envelope(digest: str, predicate: object, kind: str = SBOM_TYPE) -> str:
    subject = [{"name": "x", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    statement = {"predicateType": kind, "subject": subject, "predicate": predicate}
    content = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps({"payloadType": "application/vnd.in-toto+json", "payload": content, "signatures": []})


def test_signing_is_by_digest_with_no_transparency_log() -> None:
    assert sign_argv(FAR, "awskms:///alias/release", {"b": "2", "a": "1"}) == [
        "cosign",
        "sign",
        "--key=awskms:///alias/release",
        "--tlog-upload=false",
        "--yes",
        "--annotations=a=1",
        "--annotations=b=2",
        f"1.dkr.ecr.us-west-2.amazonaws.com/team/vw@sha256:{HEX}",
    ]


def test_attesting_replaces_the_bill_of_materials_that_was_there() -> None:
    argv = attest_argv(FAR, "k", Path("/x/bom.json"))
    assert {"--type=cyclonedx", "--predicate=/x/bom.json", "--replace", "--tlog-upload=false"} < set(argv)
    assert argv[-1] == FAR.reference


@pytest.mark.parametrize("build", [verify_argv, verify_attestation_argv])
def test_verifying_asks_no_transparency_log(build) -> None:
    assert "--private-infrastructure" in build(FAR, "cosign.pub")


def test_only_a_registry_on_loopback_may_speak_plain_http() -> None:
    assert "--allow-http-registry" in verify_argv(NEAR, "k")
    assert "--allow-http-registry" not in verify_argv(FAR, "k")


def test_newer_cosigns_are_told_to_store_as_older_ones_do() -> None:
    argv = sign_argv(FAR, "k", {}, OPTIONAL)
    assert {"--new-bundle-format=false", "--use-signing-config=false"} < set(argv)


def test_what_a_cosign_does_not_know_is_not_said_to_it() -> None:
    assert probe_argv("sign", ("--a",)) == ["cosign", "sign", "--a=false", "--help"]
    assert remaining_options("cosign sign failed: unknown flag: --a", ("--a", "--b")) == ("--b",)
    assert remaining_options("cosign sign failed: disk full", ("--a",)) == ("--a",)


def test_signatures_lie_beside_the_images() -> None:
    assert FAR.signatures == "1.dkr.ecr.us-west-2.amazonaws.com/team/vw-signatures"


@pytest.mark.parametrize(
    ("tag", "digest"),
    [(f"sha256-{HEX}.sig", f"sha256:{HEX}"), (f"sha256-{HEX}.att", f"sha256:{HEX}"), ("1.0", None), ("x.sig", None)],
)
def test_a_tag_of_a_signature_says_which_image_it_is_for(tag, digest) -> None:
    assert signed_digest(tag) == digest


def test_a_signature_has_what_was_signed_beside_the_digest() -> None:
    said = ["", "Verification for x --", payload(NEAR.digest, cell="vw"), payload(NEAR.digest)]
    first, second = parse_signatures(said, NEAR.digest)
    assert first.annotations == {"cell": "vw"}
    assert second.annotations == {}


def test_a_signature_for_another_image_is_refused() -> None:
    with pytest.raises(RegistryError, match="is for sha256:00"):
        parse_signatures([payload("sha256:00")], NEAR.digest)


def test_an_attestation_carries_the_bill_of_materials() -> None:
    said = ["WARNING: x", envelope(NEAR.digest, {"n": 1}), envelope(NEAR.digest, {}, "https://slsa.dev/provenance/v1")]
    assert attested_sboms(said, NEAR.digest) == ({"n": 1},)


def test_an_attestation_for_another_image_is_refused() -> None:
    with pytest.raises(RegistryError, match="is for sha256:00"):
        attested_sboms([envelope("sha256:00", {})], NEAR.digest)


@pytest.mark.parametrize("line", ['[{"critical": 1}]', "["])
def test_a_signature_that_cannot_be_read_counts_for_nothing(line) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        parse_signatures([line], NEAR.digest)


@pytest.mark.parametrize("line", ['{"payloadType"', '{"x": 1}', envelope(NEAR.digest, 7)])
def test_an_attestation_that_cannot_be_read_counts_for_nothing(line) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        attested_sboms([line], NEAR.digest)


def test_a_fingerprint_is_of_the_key_and_not_of_its_line_breaks() -> None:
    content = base64.b64encode(b"key").decode()
    short = f"-----BEGIN PUBLIC KEY-----\n{content}\n-----END PUBLIC KEY-----\n"
    long = f"-----BEGIN PUBLIC KEY-----\n{content[:2]}\n{content[2:]}\n-----END PUBLIC KEY-----"
    assert fingerprint(short) == fingerprint(long)
    with pytest.raises(RegistryError, match="no public key"):
        fingerprint(short.replace("PUBLIC", "PRIVATE"))


def test_the_reason_is_cosigns_first_error() -> None:
    said = ["WARNING: x", "Error: signing [a]: denied", "error during command execution: signing [a]: denied"]
    assert cosign_error(said) == "signing [a]: denied"
    assert cosign_error(["a", "b"]) == "b"
    assert cosign_error([]) == "it failed and said nothing"


def test_the_password_of_a_key_is_not_in_its_repr() -> None:
    key = signing_key("k", "WORD", {"WORD": "secret"})
    assert key.password == "secret"
    assert "secret" not in repr(key)


def test_a_password_that_is_not_set_is_said_so() -> None:
    assert signing_key("awskms:///alias/x", None, {}).password == ""
    with pytest.raises(UsageError, match="the password in WORD, which is not set"):
        signing_key("k", "WORD", {})


def test_repositories_of_signatures_take_tags_again_and_forget_nothing() -> None:
    wanted = signature_repositories(RawRepositories(lifecycle={"rules": []}, tags={"team": "rl"}))
    assert (wanted.immutable, wanted.scan_on_push, wanted.lifecycle) == (False, False, None)
    assert wanted.tags == {"team": "rl"}


def test_a_lent_login_is_for_these_hosts_alone_and_goes_again(tmp_path) -> None:
    with temporary_docker_config(Known(), [FAR.host, "unknown:5000"], {"XDG_RUNTIME_DIR": str(tmp_path)}) as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
        auths = json.loads((folder / "config.json").read_text())["auths"]
        assert auths == {FAR.host: {"auth": base64.b64encode(b"AWS:a:b").decode()}}
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_lent_is_removed_but_nobody_elses(tmp_path) -> None:
    host, _, born = this_process().rsplit(":", 2)
    dead, alive, afar = (
        tmp_path / f"{CONFIG_PREFIX}{name}-x" for name in (f"{host}:999999999:{born}", this_process(), "other-host:1:1")
    )
    for folder in (dead, alive, afar):
        folder.mkdir()
    with temporary_docker_config(Known(), [], {"XDG_RUNTIME_DIR": str(tmp_path)}):
        assert not dead.exists()
        assert alive.exists()
        assert afar.exists()
