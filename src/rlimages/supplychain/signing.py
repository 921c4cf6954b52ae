"""Sign images, attest their SBOMs and verify both, with cosign."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.errors import Interrupted, RegistryError, UsageError
from rlimages.oci.labels import SIGNED_ANNOTATION
from rlimages.oci.manifest import parse_reference
from rlimages.registry.auth import Credentials, RegistryLogin, temporary_docker_config
from rlimages.registry.client import resolve_reference
from rlimages.registry.http import Login
from rlimages.registry.repository_settings import RawRepositories
from rlimages.supplychain.cosign import (
    OPTIONAL,
    Signature,
    SignedImage,
    attest_argv,
    attested_sboms,
    cosign_error,
    fingerprint,
    parse_signatures,
    probe_argv,
    public_key_argv,
    remaining_options,
    sign_argv,
    verify_argv,
    verify_attestation_argv,
)
from rlimages.supplychain.sbom import sbom_image
from rlimages.system.files import write_text
from rlimages.system.process import Stop, run_program

COSIGN_REMEDY = 'install cosign 2 or newer, or: scripts/engine tools && eval "$(scripts/engine env)"'
TIMEOUT = 180.0
"""Seconds for one command: what cosign itself allows."""
_UNSIGNED = ("no signatures found", "no matching signatures", "no matching attestations", "none of the attestations")


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key that signs."""

    name: str
    """A file, or the URI of a key management service: `awskms:///alias/…`."""
    password: str = field(default="", repr=False)
    """Of the file."""


def signing_key(name: str, variable: str | None, environ: Mapping[str, str]) -> Key:
    """A key, with the password that a variable of the environment has. Raises `UsageError` where it is not set."""
    if variable is not None and variable not in environ:
        raise UsageError(f"the key {name} needs the password in {variable}, which is not set")
    return Key(name=name, password=environ[variable] if variable else "")


def signature_repositories(images: RawRepositories) -> RawRepositories:
    """What ECR repositories of signatures are like, beside such of images.

    Their tags move, because an attestation is added by writing its tag again; there is nothing in them to scan; and no
    lifecycle policy may forget the signature of an image that is still there.
    """
    return images.model_copy(update={"immutable": False, "scan_on_push": False, "lifecycle": None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was found good about one image."""

    subject: SignedImage
    fingerprint: str
    """Of the key: `sha256:…` of its public half in DER."""
    signed: str
    """ISO 8601, as the signer said; empty where the signature does not say."""
    annotations: Mapping[str, str]
    bom: Mapping[str, Any] | None
    """The CycloneDX bill of materials; None where none was asked for."""


class Cosign:
    """cosign, as one user of registries. All methods raise `RegistryError` with what it said, and `ToolError`."""

    def __init__(
        self, login: Path, *, environ: Mapping[str, str], stop: Stop, log: Path | None = None, timeout: float = TIMEOUT
    ) -> None:
        """`login`: a folder as DOCKER_CONFIG, see `login.docker_config`. What signs says goes to `log` (appended)."""
        self._login = login
        self._environ = environ
        self._stop = stop
        self._log = log
        self._timeout = timeout
        self._options: dict[str, tuple[str, ...]] = {}

    def public_key(self, key: Key) -> str:
        """The public half of a key, as PEM."""
        said = self._run(public_key_argv(key.name), password=key.password)
        return "\n".join([*said, ""])

    def sign(self, subject: SignedImage, key: Key, annotations: Mapping[str, str]) -> None:
        """Sign a digest, and with it these annotations and the time."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        argv = sign_argv(subject, key.name, {**annotations, SIGNED_ANNOTATION: now}, self._known("sign"))
        self._run(argv, subject, password=key.password, log=self._log)

    def attest(self, subject: SignedImage, key: Key, bom: Path) -> None:
        """Say, signed, that a CycloneDX file tells what is in the image; in place of what was said before."""
        argv = attest_argv(subject, key.name, bom, self._known("attest"))
        self._run(argv, subject, password=key.password, log=self._log)

    def signature(self, subject: SignedImage, public: str) -> Signature | None:
        """The newest good signature by a key (file or URI); None where there is none."""
        said = self._look(verify_argv(subject, public, self._known("verify")), subject)
        found = parse_signatures(said, subject.digest)
        return max(found, key=lambda signature: signature.annotations.get(SIGNED_ANNOTATION, ""), default=None)

    def bom(self, subject: SignedImage, public: str) -> Mapping[str, Any] | None:
        """The bill of materials that a good attestation by a key carries; None where there is none."""
        options = self._known("verify-attestation")
        found = attested_sboms(self._look(verify_attestation_argv(subject, public, options), subject), subject.digest)
        return found[-1] if found else None

    def _look(self, argv: Sequence[str], subject: SignedImage) -> list[str]:
        """What a verification says; nothing where nothing was signed by that key."""
        try:
            return self._run(argv, subject)
        except _RefusedError as error:
            if any(words in str(error) for words in _UNSIGNED):
                return []
            raise

    def _known(self, command: str) -> tuple[str, ...]:
        if command not in self._options:
            self._options[command] = self._probe(command, OPTIONAL)
        return self._options[command]

    def _probe(self, command: str, options: tuple[str, ...]) -> tuple[str, ...]:
        """Those of some options that a command has."""
        try:
            self._run(probe_argv(command, options))
        except _RefusedError as error:
            left = remaining_options(str(error), options)
            if left == options:
                raise
            return self._probe(command, left) if left else ()
        return options

    def _run(
        self, argv: Sequence[str], subject: SignedImage | None = None, *, password: str = "", log: Path | None = None
    ) -> list[str]:
        """What a command prints. An empty password is one too: it keeps cosign from asking a person."""
        said: list[str] = []
        told = {**self._environ, "DOCKER_CONFIG": str(self._login), "COSIGN_PASSWORD": password}
        if subject:
            told["COSIGN_REPOSITORY"] = subject.signatures
        ended = run_program(
            argv, log=log, on_line=said.append, timeout=self._timeout, stop=self._stop, env=told, remedy=COSIGN_REMEDY
        )
        if ended.cancelled:
            raise Interrupted("interrupted")
        if ended.timed_out:
            raise RegistryError(f"cosign {argv[1]} took longer than {self._timeout:.0f} s; is the registry slow?")
        if not ended.passed:
            of = f" of {subject.reference}" if subject else ""
            raise _RefusedError(f"cosign {argv[1]}{of} failed: {cosign_error(said)}")
        return said


class _RefusedError(RegistryError):
    """cosign said no."""


def public_key(program: Cosign, key: Key, folder: Path) -> str:
    """What to verify with: the URI of a key, or `cosign.pub` in `folder`, which gets the public half of a file's."""
    if is_key_uri(key.name):
        return key.name
    path = folder / "cosign.pub"
    write_text(path, program.public_key(key))
    return str(path)


def sign_image(
    program: Cosign,
    subject: SignedImage,
    key: Key,
    public: str,
    *,
    annotations: Mapping[str, str],
    bom: Path | None = None,
) -> Verification:
    """Sign an image and attest its bill of materials, unless both were done; what a verification says afterwards.

    `public` is the key to verify with, see `public_half`. May be called again after it broke. Raises `RegistryError`.
    """
    if program.signature(subject, public) is None:
        program.sign(subject, key, annotations)
    if bom is not None and program.bom(subject, public) != json.loads(bom.read_bytes()):
        program.attest(subject, key, bom)
    return verify_image(program, subject, public, with_bom=bom is not None)


def verify_image(program: Cosign, subject: SignedImage, public: str, *, with_bom: bool = True) -> Verification:
    """What a key (file or URI) says about an image. Raises `RegistryError` where it said nothing, or something else."""
    signature = program.signature(subject, public)
    if signature is None:
        raise RegistryError(f"{subject.reference} is not signed by the key {public} (looked in {subject.signatures})")
    bom = program.bom(subject, public) if with_bom else None
    if with_bom and bom is None:
        raise RegistryError(f"{subject.reference} is signed, but the key {public} attests no bill of materials of it")
    return Verification(
        subject=subject,
        fingerprint=fingerprint(_pem(program, public)),
        signed=signature.annotations.get(SIGNED_ANNOTATION, ""),
        annotations=signature.annotations,
        bom=bom,
    )


def verify_references(
    references: Sequence[str], public: str, *, credentials: Credentials, environ: Mapping[str, str], stop: Stop
) -> Iterator[tuple[str, Verification | RegistryError]]:
    """What a key says about what registries hold under these references now. One that it doesn't know is an answer too.

    Also checked: that the bill of materials is this very image's. Raises `ToolError` where there is no cosign.
    """
    hosts = {parse_reference(reference).host for reference in references}
    login = RegistryLogin(credentials)
    with temporary_docker_config(credentials, hosts, environ) as folder:
        program = Cosign(folder, environ=environ, stop=stop)
        for reference in references:
            try:
                yield reference, _verify_reference(program, reference, public, login)
            except RegistryError as error:
                yield reference, error


def _verify_reference(program: Cosign, reference: str, public: str, login: Login) -> Verification:
    place = parse_reference(reference)
    manifest = resolve_reference(reference, login=login)
    if manifest is None:
        raise RegistryError(f"{reference} is not there")
    subject = SignedImage(host=place.host, repository=place.repository, digest=manifest.digest)
    verified = verify_image(program, subject, public)
    image = sbom_image(verified.bom or {})
    if image and manifest.image and image != manifest.image:
        raise RegistryError(f"{reference} is {manifest.image}, and what is attested as its contents is {image}'s")
    return verified


def _pem(program: Cosign, public: str) -> str:
    if is_key_uri(public):
        return program.public_key(Key(name=public))
    try:
        return Path(public).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RegistryError(f"{public}: the key cannot be read: {error}") from error


def is_key_uri(name: str) -> bool:
    """Whether a key is one of a key management service, and no file."""
    return "://" in name
