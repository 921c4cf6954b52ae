"""Compose the command lines of cosign and parse its output, with pure functions. Nothing is run here.

Images are signed with the user's own keys. Signatures are stored in the format of cosign 2: under the tags
`sha256-<digest>.sig` and `.att`, in a separate repository whose name ends with `-signatures`. No server of Sigstore is
asked, so a machine without internet access can sign and verify.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.errors import RegistryError
from rlimages.registry.http import is_loopback

REPOSITORY_SUFFIX = "-signatures"
"""Suffix of a repository with the signatures and attestations of the images in the repository without it."""
TAG_SUFFIXES = (".sig", ".att")
"""Suffixes of cosign's tags for the signature and the attestations of an image."""
SBOM_TYPE = "https://cyclonedx.org/bom"
"""Predicate type of an attestation with a CycloneDX SBOM; on cosign's command line it is called `cyclonedx`."""
COSIGN_3_OPTIONS = ("--new-bundle-format", "--use-signing-config")
"""Options that cosign 3 sets by default, and that older versions do not have. They are set to false where they exist.

The first stores signatures as bundles, which are found through the referrers API and not by tags:
sigstore/cosign#4335. With the second, cosign asks Sigstore's servers.
"""
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedImage:
    """An image to sign or verify: one manifest in one registry, named by its digest, because a tag could move."""

    host: str
    """`host[:port]` of the registry."""
    repository: str
    digest: str
    """`sha256:…` of the manifest."""

    @property
    def reference(self) -> str:
        """The reference of the image for cosign: `host/repository@sha256:…`."""
        return f"{self.host}/{self.repository}@{self.digest}"

    @property
    def signatures(self) -> str:
        """`host/repository` of the repository in which the image's signatures and attestations are stored."""
        return f"{self.host}/{signature_repository(self.repository)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSignature:
    """A signature of an image that cosign verified with a public key."""

    digest: str
    """`sha256:…` of the signed manifest."""
    annotations: Mapping[str, str]
    """Names and values that were signed together with the digest."""


def signature_repository(repository: str) -> str:
    """Return the name of the repository for the signatures and attestations of the images in `repository`.

    It is a separate repository because its tags must be able to move: an attestation is added by writing its tag again.
    """
    return repository + REPOSITORY_SUFFIX


def signed_digest(tag: str) -> str | None:
    """Return the digest of the image whose signature or attestations have `tag`, such as `sha256-<digest>.sig`.

    Return None if `tag` is not a tag of cosign.
    """
    name = next((tag.removesuffix(suffix) for suffix in TAG_SUFFIXES if tag.endswith(suffix)), "")
    return "sha256:" + name.removeprefix("sha256-") if name.startswith("sha256-") else None


def public_key_argv(key: str) -> list[str]:
    """Return the command that prints, as PEM, the public key of the private key `key` (file or URI)."""
    return ["cosign", "public-key", f"--key={key}"]


def probe_argv(command: str, options: Sequence[str]) -> list[str]:
    """Return a command that changes nothing, and fails if cosign's subcommand `command` does not know all `options`.

    `options` are passed together with `--help`, and not searched for in the help text: it does not list hidden options.
    """
    return ["cosign", command, *(f"{option}=false" for option in options), "--help"]


def sign_argv(image: SignedImage, key: str, annotations: Mapping[str, str], options: Sequence[str] = ()) -> list[str]:
    """Return the command that signs the digest of `image` together with `annotations`, and pushes the signature.

    `key` is a file or URI of a private key. `options` are those of `COSIGN_3_OPTIONS` that the installed cosign knows;
    they are set to false.
    """
    stamps = [f"--annotations={name}={value}" for name, value in sorted(annotations.items())]
    return [*_write_argv("sign", image, key, options), *stamps, image.reference]


def attest_argv(image: SignedImage, key: str, sbom: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command that attests (signs) that `image` has the SBOM in the CycloneDX file `sbom`, and pushes it.

    An attestation of an earlier SBOM is replaced. `key` is a file or URI of a private key. `options` are those of
    `COSIGN_3_OPTIONS` that the installed cosign knows; they are set to false.
    """
    # --replace: without it cosign keeps the SBOMs of earlier releases beside the new one.
    return [
        *_write_argv("attest", image, key, options),
        "--type=cyclonedx",
        f"--predicate={sbom}",
        "--replace",
        image.reference,
    ]


def verify_argv(image: SignedImage, key: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that prints, as JSON, the signatures of `image` that the public key `key` verifies.

    `key` is a file or URI. `options` are those of `COSIGN_3_OPTIONS` that the installed cosign knows; they are set to
    false.
    """
    return [*_verify_argv("verify", image, key, options), image.reference]


def verify_attestation_argv(image: SignedImage, key: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that prints, as JSON, the attested SBOMs of `image` that the public key `key` verifies.

    `key` is a file or URI. `options` are those of `COSIGN_3_OPTIONS` that the installed cosign knows; they are set to
    false.
    """
    return [*_verify_argv("verify-attestation", image, key, options), "--type=cyclonedx", image.reference]


def _write_argv(command: str, image: SignedImage, key: str, options: Sequence[str]) -> list[str]:
    # --tlog-upload=false: the default uploads the signature to Sigstore's public transparency log.
    # --yes: cosign would ask a person for confirmation.
    return ["cosign", command, f"--key={key}", "--tlog-upload=false", "--yes", *_common_options(image, options)]


def _verify_argv(command: str, image: SignedImage, key: str, options: Sequence[str]) -> list[str]:
    # --private-infrastructure: do not look for an entry of the transparency log, there is none.
    return ["cosign", command, f"--key={key}", "--private-infrastructure", *_common_options(image, options)]


def _common_options(image: SignedImage, options: Sequence[str]) -> list[str]:
    disabled = [f"{option}=false" for option in options]
    # Only a registry on loopback may be reached without TLS: plain HTTP shows the credentials to the network.
    return [*disabled, "--allow-http-registry"] if is_loopback(image.host) else disabled


def remaining_options(error: str, options: Sequence[str]) -> tuple[str, ...]:
    """Return those of `options` that `error` does not call unknown; it is the message of a failed `probe_argv`."""
    return tuple(option for option in options if f"unknown flag: {option}" not in error)


def parse_signatures(lines: Iterable[str], digest: str) -> tuple[ImageSignature, ...]:
    """Return the signatures in `lines`, the output of `cosign verify`; empty if there are none.

    Raises `RegistryError` if a signature cannot be parsed, or signs another digest than `digest`.
    """
    signatures = []
    for line in lines:
        # cosign prints sentences for people too. The signatures are one line that is a JSON array.
        if not line.startswith("["):
            continue
        try:
            for payload in json.loads(line):
                signed = str(payload["critical"]["image"]["docker-manifest-digest"])
                annotations = {str(name): str(value) for name, value in (payload.get("optional") or {}).items()}
                signatures.append(ImageSignature(digest=signed, annotations=annotations))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"cosign printed signatures of {digest} that cannot be read ({error!r})") from error
    _require_digest((signature.digest for signature in signatures), digest)
    return tuple(signatures)


def parse_attested_sboms(lines: Iterable[str], digest: str) -> tuple[Mapping[str, Any], ...]:
    """Return the SBOMs (CycloneDX JSON) in `lines`, the output of `cosign verify-attestation`; empty if there are none.

    Attestations that are not SBOMs are ignored. Raises `RegistryError` if an attestation cannot be parsed, or is for
    another digest than `digest`.
    """
    sboms, digests = [], []
    for line in lines:
        # Each attestation is one line that is a JSON object (a DSSE envelope).
        if not line.startswith("{"):
            continue
        try:
            envelope = json.loads(line)
            if envelope["payloadType"] != _IN_TOTO:
                continue
            statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
            if statement["predicateType"] != SBOM_TYPE:
                continue
            digests += [f"sha256:{subject['digest']['sha256']}" for subject in statement["subject"]]
            sboms.append(dict(statement["predicate"]))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise RegistryError(f"cosign printed an attestation of {digest} that cannot be read ({error!r})") from error
    _require_digest(digests, digest)
    return tuple(sboms)


def fingerprint(pem: str) -> str:
    """Return `sha256:…` of the DER encoding of the public key `pem`. Raises `RegistryError` if it is not one in PEM."""
    lines = [line.strip() for line in pem.strip().splitlines()]
    try:
        if lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
            raise ValueError("it is not in PEM")
        return "sha256:" + hashlib.sha256(base64.b64decode("".join(lines[1:-1]), validate=True)).hexdigest()
    except (ValueError, IndexError) as error:
        raise RegistryError(f"this is not a public key: {error}") from error


def cosign_error(lines: Iterable[str]) -> str:
    """Return one line with the reason why cosign failed; `lines` are its output.

    It is the text after the first `Error: `, or else the last line that is not empty.
    """
    output = [line.strip() for line in lines if line.strip()]
    errors = [line.partition("Error: ")[2] for line in output if "Error: " in line]
    return (errors or output or ["it failed and printed nothing"])[0 if errors else -1]


def _require_digest(signed: Iterable[str], digest: str) -> None:
    # A signature's manifest can be copied to the tag of another image by anybody who may push.
    for other in signed:
        if other != digest:
            raise RegistryError(f"a signature under the tag of {digest} is for {other}")
