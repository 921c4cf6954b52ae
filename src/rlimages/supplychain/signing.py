"""Sign images, attest their SBOMs and verify both, by running cosign."""

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
    COSIGN_3_OPTIONS,
    ImageSignature,
    SignedImage,
    attest_argv,
    cosign_error,
    fingerprint,
    parse_attested_sboms,
    parse_signatures,
    probe_argv,
    public_key_argv,
    remaining_options,
    sign_argv,
    verify_argv,
    verify_attestation_argv,
)
from rlimages.supplychain.sbom import sbom_image_id
from rlimages.system.context import RunContext
from rlimages.system.files import write_text
from rlimages.system.process import run_program

COSIGN_REMEDY = 'install cosign 2 or newer, or: scripts/engine tools && eval "$(scripts/engine env)"'
TIMEOUT = 180.0
"""Seconds for one command; cosign's own time limit is the same by default."""
_UNSIGNED = ("no signatures found", "no matching signatures", "no matching attestations", "none of the attestations")
"""Texts in cosign's errors for an image that the key did not sign. Any other error, as of the network, is raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """A private key of cosign."""

    name: str
    """Path of the key's file, or its URI in a key management service: `awskms:///alias/…`."""
    password: str = field(default="", repr=False)
    """Password of the key's file; empty for a URI."""


def signing_key(name: str, password_variable: str | None, environ: Mapping[str, str]) -> SigningKey:
    """Return the private key `name` (file or URI), with its password from a variable of `environ`.

    `password_variable` is the name of the variable; None means a key without a password. Raises `UsageError` if the
    variable is not set.
    """
    if password_variable is not None and password_variable not in environ:
        raise UsageError(f"the key {name} needs the password in {password_variable}, which is not set")
    return SigningKey(name=name, password=environ[password_variable] if password_variable else "")


def is_key_uri(name: str) -> bool:
    """Return whether `name`, which names a key, is the URI of a key management service and not the path of a file."""
    return "://" in name


def signature_repositories(images: RawRepositories) -> RawRepositories:
    """Return the settings of the ECR repositories for signatures; `images` are those of the repositories for images.

    The repositories for signatures have movable tags, no scan and no lifecycle policy. Other settings are equal.
    """
    # Tags move, because an attestation is added by writing its tag again. There is nothing to scan. A lifecycle policy
    # that counts or ages images would delete signatures of images that stay.
    return images.model_copy(update={"immutable": False, "scan_on_push": False, "lifecycle": None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The verified signature of an image, and its verified SBOM."""

    image: SignedImage
    fingerprint: str
    """`sha256:…` of the public key in DER encoding."""
    signed: str
    """Time of signing by the signer's clock, ISO 8601; empty if the signature has none."""
    annotations: Mapping[str, str]
    """Names and values that were signed together with the image's digest."""
    sbom: Mapping[str, Any] | None
    """The attested SBOM (CycloneDX JSON); None if only the signature was verified."""


class Cosign:
    """A runner of the program cosign, with the registry credentials of one `DOCKER_CONFIG`.

    Every method raises `RegistryError` with cosign's own message if cosign fails, `ToolError` if cosign is not
    installed, and `Interrupted` if the user stops the command.
    """

    def __init__(
        self, docker_config: Path, *, context: RunContext, log: Path | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Run cosign with the credentials in the folder `docker_config` (see `registry.auth.temporary_docker_config`).

        cosign gets the environment of `context`, and its stop signal ends a running cosign. The output of `sign` and
        `attest` is appended to the file `log`; with None it is not kept. `timeout` is in seconds, for each command.
        """
        self._docker_config = docker_config
        self._context = context
        self._log = log
        self._timeout = timeout
        self._options: dict[str, tuple[str, ...]] = {}

    def public_key(self, key: SigningKey) -> str:
        """Return the public key of the private key `key`, as PEM text."""
        lines = self._run(public_key_argv(key.name), password=key.password)
        return "\n".join([*lines, ""])

    def sign(self, image: SignedImage, key: SigningKey, annotations: Mapping[str, str]) -> None:
        """Sign the digest of `image` with `key`, together with `annotations` and the current time.

        cosign pushes the signature to the repository `image.signatures`.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        argv = sign_argv(image, key.name, {**annotations, SIGNED_ANNOTATION: now}, self._known_options("sign"))
        self._run(argv, image, password=key.password, log=self._log)

    def attest(self, image: SignedImage, key: SigningKey, sbom: Path) -> None:
        """Attest (sign) with `key` that `image` has the SBOM in the CycloneDX file `sbom`.

        cosign pushes the attestation to the repository `image.signatures`, where it replaces that of an earlier SBOM.
        """
        argv = attest_argv(image, key.name, sbom, self._known_options("attest"))
        self._run(argv, image, password=key.password, log=self._log)

    def signature(self, image: SignedImage, public_key: str) -> ImageSignature | None:
        """Return the newest signature of `image` that `public_key` (file or URI) verifies; None if there is none."""
        lines = self._verify(verify_argv(image, public_key, self._known_options("verify")), image)
        signatures = parse_signatures(lines, image.digest)
        return max(signatures, key=lambda signature: signature.annotations.get(SIGNED_ANNOTATION, ""), default=None)

    def sbom(self, image: SignedImage, public_key: str) -> Mapping[str, Any] | None:
        """Return the SBOM (CycloneDX JSON) of `image` whose attestation `public_key` (file or URI) verifies.

        Return None if there is no attested SBOM.
        """
        argv = verify_attestation_argv(image, public_key, self._known_options("verify-attestation"))
        sboms = parse_attested_sboms(self._verify(argv, image), image.digest)
        return sboms[-1] if sboms else None

    def _verify(self, argv: Sequence[str], image: SignedImage) -> list[str]:
        """Run the verification `argv` of `image`. Return the lines of its output; empty if the key did not sign it."""
        try:
            return self._run(argv, image)
        except _CosignError as error:
            if any(text in str(error) for text in _UNSIGNED):
                return []
            raise

    def _known_options(self, command: str) -> tuple[str, ...]:
        """Return those of `COSIGN_3_OPTIONS` that the subcommand `command` of the installed cosign knows.

        cosign is run to find out, once for each `command`.
        """
        if command not in self._options:
            self._options[command] = self._probe(command, COSIGN_3_OPTIONS)
        return self._options[command]

    def _probe(self, command: str, options: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of `options` that cosign's subcommand `command` knows. Run cosign until no option is unknown."""
        try:
            self._run(probe_argv(command, options))
        except _CosignError as error:
            # cosign reports only the first unknown option, so probe again without it.
            remaining = remaining_options(str(error), options)
            if remaining == options:
                raise
            return self._probe(command, remaining) if remaining else ()
        return options

    def _run(
        self, argv: Sequence[str], image: SignedImage | None = None, *, password: str = "", log: Path | None = None
    ) -> list[str]:
        """Run the command `argv` and return the lines of its output, which are also appended to the file `log`.

        `image` is the image to sign or verify, whose repository of signatures cosign uses. `password` is that of the
        private key. Raises `_CosignError` if cosign fails, and `RegistryError` if it takes too long.
        """
        lines: list[str] = []
        # COSIGN_PASSWORD is always set: with an empty one, cosign does not ask a person for it.
        env = {**self._context.environ, "DOCKER_CONFIG": str(self._docker_config), "COSIGN_PASSWORD": password}
        if image:
            env["COSIGN_REPOSITORY"] = image.signatures
        result = run_program(
            argv,
            log=log,
            on_line=lines.append,
            timeout=self._timeout,
            stop=self._context.stop,
            env=env,
            remedy=COSIGN_REMEDY,
        )
        if result.cancelled:
            raise Interrupted("interrupted")
        if result.timed_out:
            raise RegistryError(f"cosign {argv[1]} took longer than {self._timeout:.0f} s; is the registry slow?")
        if not result.passed:
            of_image = f" of {image.reference}" if image else ""
            raise _CosignError(f"cosign {argv[1]}{of_image} failed: {cosign_error(lines)}")
        return lines


class _CosignError(RegistryError):
    """The error of a cosign command that failed. Its text is cosign's own message."""


def verification_key(cosign: Cosign, key: SigningKey, folder: Path) -> str:
    """Return the name of the key that verifies the signatures of the private key `key`.

    It is the URI if `key` has one, or else the path of a new file `cosign.pub` in `folder` with the public key.
    """
    if is_key_uri(key.name):
        return key.name
    path = folder / "cosign.pub"
    write_text(path, cosign.public_key(key))
    return str(path)


def sign_image(
    cosign: Cosign,
    image: SignedImage,
    key: SigningKey,
    public_key: str,
    *,
    annotations: Mapping[str, str],
    sbom: Path | None = None,
) -> Verification:
    """Sign `image` with `key` and attest its SBOM, then verify both with `public_key` and return the verification.

    `annotations` are signed together with the digest. `sbom` is a CycloneDX file; without it, only the signature is
    made and verified. A signature or attestation that exists already is not made again, so an interrupted release can
    be repeated. `public_key` is the path or URI that `verification_key` returns. Raises `RegistryError` if cosign fails
    or the result is not valid.
    """
    if cosign.signature(image, public_key) is None:
        cosign.sign(image, key, annotations)
    if sbom is not None and cosign.sbom(image, public_key) != json.loads(sbom.read_bytes()):
        cosign.attest(image, key, sbom)
    return verify_image(cosign, image, public_key, with_sbom=sbom is not None)


def verify_image(cosign: Cosign, image: SignedImage, public_key: str, *, with_sbom: bool = True) -> Verification:
    """Verify the signature of `image`, and its attested SBOM if `with_sbom`, with `public_key` (file or URI).

    Raises `RegistryError` if the key did not sign the image, or if `with_sbom` and the key attests no SBOM of it.
    """
    signature = cosign.signature(image, public_key)
    if signature is None:
        raise RegistryError(f"{image.reference} is not signed by the key {public_key} (looked in {image.signatures})")
    sbom = cosign.sbom(image, public_key) if with_sbom else None
    if with_sbom and sbom is None:
        raise RegistryError(f"{image.reference} is signed, but the key {public_key} attests no SBOM of it")
    return Verification(
        image=image,
        fingerprint=fingerprint(_read_public_key(cosign, public_key)),
        signed=signature.annotations.get(SIGNED_ANNOTATION, ""),
        annotations=signature.annotations,
        sbom=sbom,
    )


def verify_references(
    references: Sequence[str], public_key: str, *, credentials: Credentials, context: RunContext
) -> Iterator[tuple[str, Verification | RegistryError]]:
    """Verify the images that registries have under `references` now, with `public_key` (file or URI).

    Yield each reference with its verification, or with the error if it is not valid; the other references are still
    verified. The attested SBOM must describe the image that the reference names. `credentials` are those of the
    registries. Raises `ToolError` if cosign is not installed, and `RegistryError` if a reference names no registry.
    """
    hosts = {parse_reference(reference).host for reference in references}
    login = RegistryLogin(credentials)
    with temporary_docker_config(credentials, hosts, context.environ) as docker_config:
        cosign = Cosign(docker_config, context=context)
        for reference in references:
            try:
                yield reference, _verify_reference(cosign, reference, public_key, login)
            except RegistryError as error:
                yield reference, error


def _verify_reference(cosign: Cosign, reference: str, public_key: str, login: Login) -> Verification:
    parsed = parse_reference(reference)
    manifest = resolve_reference(reference, login=login)
    if manifest is None:
        raise RegistryError(f"{reference} does not exist")
    image = SignedImage(host=parsed.host, repository=parsed.repository, digest=manifest.digest)
    verification = verify_image(cosign, image, public_key)
    described = sbom_image_id(verification.sbom or {})
    # The digest of an attestation can be right and its SBOM still be made from another image.
    if described and manifest.image and described != manifest.image:
        raise RegistryError(f"{reference} is the image {manifest.image}, but the attested SBOM is that of {described}")
    return verification


def _read_public_key(cosign: Cosign, public_key: str) -> str:
    if is_key_uri(public_key):
        return cosign.public_key(SigningKey(name=public_key))
    try:
        return Path(public_key).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RegistryError(f"{public_key}: the key cannot be read: {error}") from error
