"""The command lines of cosign, and parsers of its output. Nothing is run here."""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.errors import RegistryError
from rlimages.registry.http import is_loopback

SUFFIX = "-signatures"
KINDS = (".sig", ".att")
SBOM_TYPE = "https://cyclonedx.org/bom"
"""What an attestation that carries a CycloneDX bill of materials calls it; `cyclonedx` on cosign's command line."""
OPTIONAL = ("--new-bundle-format", "--use-signing-config")
"""Options that only newer cosigns have; on by default there, they store in another way and ask Sigstore's servers."""
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedImage:
    """What is signed: one image in one registry, by its digest."""

    host: str
    repository: str
    digest: str

    @property
    def reference(self) -> str:
        """`host/repository@sha256:…`."""
        return f"{self.host}/{self.repository}@{self.digest}"

    @property
    def signatures(self) -> str:
        """`host/repository` where its signatures lie."""
        return f"{self.host}/{signature_repository(self.repository)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """One good signature."""

    digest: str
    annotations: Mapping[str, str]
    """What was signed beside the digest."""


def signature_repository(repository: str) -> str:
    """Where the signatures of a repository's images lie. Its tags must be able to move: attestations are added."""
    return repository + SUFFIX


def signed_digest(tag: str) -> str | None:
    """The digest that a tag of a signatures' repository is for; None for any other tag."""
    name = next((tag.removesuffix(kind) for kind in KINDS if tag.endswith(kind)), "")
    return "sha256:" + name.removeprefix("sha256-") if name.startswith("sha256-") else None


def public_key_argv(key: str) -> list[str]:
    """Print the public half of a key."""
    return ["cosign", "public-key", f"--key={key}"]


def probe_argv(command: str, options: Sequence[str]) -> list[str]:
    """Do nothing, and fail where a command does not have all of these options: its help hides some that it has."""
    return ["cosign", command, *(f"{option}=false" for option in options), "--help"]


def sign_argv(subject: SignedImage, key: str, annotations: Mapping[str, str], options: Sequence[str] = ()) -> list[str]:
    """Sign a digest and, with it, annotations."""
    stamps = [f"--annotations={name}={value}" for name, value in sorted(annotations.items())]
    return [*_signing("sign", subject, key, options), *stamps, subject.reference]


def attest_argv(subject: SignedImage, key: str, bom: Path, options: Sequence[str] = ()) -> list[str]:
    """Attest a bill of materials, in place of the one before."""
    words = ["--type=cyclonedx", f"--predicate={bom}", "--replace"]
    return [*_signing("attest", subject, key, options), *words, subject.reference]


def verify_argv(subject: SignedImage, key: str, options: Sequence[str] = ()) -> list[str]:
    """Print the good signatures, as JSON."""
    return [*_verifying("verify", subject, key, options), subject.reference]


def verify_attestation_argv(subject: SignedImage, key: str, options: Sequence[str] = ()) -> list[str]:
    """Print the good attestations of bills of materials, as JSON."""
    return [*_verifying("verify-attestation", subject, key, options), "--type=cyclonedx", subject.reference]


def remaining_options(why: str, options: Sequence[str]) -> tuple[str, ...]:
    """Of these options, those that a failed probe has nothing against."""
    return tuple(option for option in options if f"unknown flag: {option}" not in why)


def parse_signatures(said: Iterable[str], digest: str) -> tuple[Signature, ...]:
    """The signatures that `verify` found good; every one must be for this digest. Raises `RegistryError`."""
    found = []
    for line in said:
        if not line.startswith("["):
            continue
        try:
            for told in json.loads(line):
                signed = str(told["critical"]["image"]["docker-manifest-digest"])
                words = {str(name): str(value) for name, value in (told.get("optional") or {}).items()}
                found.append(Signature(digest=signed, annotations=words))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"cosign printed signatures of {digest} that cannot be read ({error!r})") from error
    _require_digest((signature.digest for signature in found), digest)
    return tuple(found)


def attested_sboms(said: Iterable[str], digest: str) -> tuple[Mapping[str, Any], ...]:
    """The bills of materials that `verify-attestation` found good; all must be for this digest.

    Raises `RegistryError`.
    """
    found, digests = [], []
    for line in said:
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
            found.append(dict(statement["predicate"]))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise RegistryError(f"cosign printed an attestation of {digest} that cannot be read ({error!r})") from error
    _require_digest(digests, digest)
    return tuple(found)


def fingerprint(pem: str) -> str:
    """`sha256:…` of a public key's DER encoding. Raises `RegistryError` for anything else than a public key."""
    lines = [line.strip() for line in pem.strip().splitlines()]
    try:
        if lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
            raise ValueError("it is not in PEM")
        return "sha256:" + hashlib.sha256(base64.b64decode("".join(lines[1:-1]), validate=True)).hexdigest()
    except (ValueError, IndexError) as error:
        raise RegistryError(f"this is no public key: {error}") from error


def cosign_error(said: Iterable[str]) -> str:
    """Why cosign gave up: its first `Error: …`, in one line."""
    lines = [line.strip() for line in said if line.strip()]
    errors = [line.partition("Error: ")[2] for line in lines if "Error: " in line]
    return (errors or lines or ["it failed and said nothing"])[0 if errors else -1]


def _signing(command: str, subject: SignedImage, key: str, options: Sequence[str]) -> list[str]:
    return ["cosign", command, f"--key={key}", "--tlog-upload=false", "--yes", *_common(subject, options)]


def _verifying(command: str, subject: SignedImage, key: str, options: Sequence[str]) -> list[str]:
    return ["cosign", command, f"--key={key}", "--private-infrastructure", *_common(subject, options)]


def _common(subject: SignedImage, options: Sequence[str]) -> Iterator[str]:
    yield from (f"{option}=false" for option in options)
    if is_loopback(subject.host):
        yield "--allow-http-registry"


def _require_digest(found: Iterable[str], digest: str) -> None:
    for other in found:
        if other != digest:
            raise RegistryError(f"a signature under the name of {digest} is for {other}")
