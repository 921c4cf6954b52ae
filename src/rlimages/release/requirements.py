"""Check and fulfil a target's requirements for its images: no severe scan finding, a signature, an attested SBOM."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from rlimages.errors import ConfigError, RegistryError
from rlimages.oci.labels import CELL_LABEL
from rlimages.registry.auth import temporary_docker_config
from rlimages.registry.ecr import EcrClient
from rlimages.registry.repository_settings import RawRepositories
from rlimages.release.journal import Release, RequirementChecked
from rlimages.release.model import RegistryConnection, ReleaseItem, ReportProgress
from rlimages.release.targets_file import RawTarget
from rlimages.supplychain.cosign import SignedImage, signature_repository
from rlimages.supplychain.scan import (
    ScanResult,
    Severity,
    Vulnerability,
    Waiver,
    await_scan,
    evaluate_scan,
    parse_waivers,
    scan_lines,
    scan_summary,
    unused_waivers,
)
from rlimages.supplychain.signing import (
    Cosign,
    SigningKey,
    Verification,
    is_key_uri,
    sign_image,
    signature_repositories,
    signing_key,
    verification_key,
)
from rlimages.system.context import RunContext
from rlimages.system.files import read_text, write_text
from rlimages.system.process import Stop

Digests = Mapping[ReleaseItem, str]
"""Item -> the digest of the manifest that a registry has for it."""
PrintLine = Callable[[str], None]
"""Prints one line of progress for people."""


@dataclass(frozen=True, kw_only=True)
class TargetRequirements:
    """The requirements of one target for its images. By default there are none."""

    key: SigningKey | None = None
    """Private key that signs images and attests SBOMs; None if the target requires no signatures."""
    repositories: RawRepositories = field(default_factory=RawRepositories)
    """Settings of new ECR repositories for images, from which those of repositories for signatures are derived."""
    fail_on: Severity | None = None
    """Scan findings of this severity or above stop the release; None if scan findings are not read."""
    waivers: tuple[Waiver, ...] = ()
    """Scan findings that somebody accepted until a date. They do not stop the release before that date."""


def read_requirements(target: RawTarget, root: Path, environ: Mapping[str, str]) -> TargetRequirements:
    """Return the requirements in the settings of `target`, with the password of the key and the waivers read.

    Paths in `target` are relative to `root`, the folder of `targets.yaml`. The password is a variable of `environ`.
    Raises `UsageError` if it is not set, and `ConfigError` if the file of waivers is missing or has mistakes.
    """
    key = None
    if target.sign is not None:
        name = target.sign if is_key_uri(target.sign) else str(root / target.sign)
        key = signing_key(name, target.sign_password, environ)
    requirements = TargetRequirements(key=key, repositories=target.repositories)
    if target.scan is None:
        return requirements
    waivers: tuple[Waiver, ...] = ()
    if target.scan.waivers is not None:
        path = root / target.scan.waivers
        text = read_text(path)
        if text is None:
            raise ConfigError(f"{path}: there is no such file; `scan.waivers` of the target names it")
        waivers = parse_waivers(text, target.scan.waivers)
    return replace(requirements, fail_on=Severity[target.scan.fail_on.upper()], waivers=waivers)


@dataclass(frozen=True, kw_only=True)
class RequirementChecker:
    """The checks of a target's requirements for all images of one release. `check` is called once for each registry."""

    requirements: TargetRequirements
    release: Release
    """The release whose images are checked. Its journal records each result, its folder gets the files of signing."""
    sboms: Mapping[str, str]
    """Cell id -> SBOM to attest (CycloneDX JSON text). An image without an SBOM is only signed."""
    context: RunContext

    def check(self, connection: RegistryConnection, digests: Digests, on_progress: ReportProgress) -> None:
        """Scan and sign the images in the registry of `connection`, and attest their SBOMs, as the target requires.

        `digests` are the manifests to check. Their tags have not been moved yet. The results are written to the
        journal, and signatures and attestations are pushed to the registry. `on_progress` gets the registry's name and
        the step. Raises `RegistryError` if a scan finding stops the release or an image cannot be signed, and
        `Interrupted` if the user stops the wait for a scan.
        """
        registry = connection.registry.name
        print_line = partial(on_progress, registry)

        def record(cell: str, requirement: str, detail: str, *, passed: bool = True) -> None:
            self.release.journal.write(
                RequirementChecked(registry=registry, cell=cell, requirement=requirement, passed=passed, detail=detail)
            )

        # Scans come first: an image that is refused for its findings gets no signature.
        check_scans(
            connection,
            digests,
            self.requirements,
            today=datetime.now(UTC).date(),
            stop=self.context.stop,
            print_line=print_line,
            on_result=lambda cell, result: record(cell, "scan", scan_summary(result), passed=result.passed),
        )
        verifications = sign_images(
            connection,
            digests,
            self.requirements,
            self.sboms,
            folder=self.release.folder / registry.replace("/", "-"),
            context=self.context,
            print_line=print_line,
        )
        for item, verification in zip(digests, verifications, strict=bool(verifications)):
            signed = verification.signed or "a time that the signature does not give"
            record(item.cell, "signature", f"by {verification.fingerprint} at {signed}")
            if verification.sbom is not None:
                count = len(verification.sbom.get("components", ()))
                record(item.cell, "contents", f"{count} components, attested by the same key")


def check_scans(
    connection: RegistryConnection,
    digests: Digests,
    requirements: TargetRequirements,
    *,
    today: date,
    stop: Stop,
    print_line: PrintLine,
    on_result: Callable[[str, ScanResult], None] = lambda _cell, _result: None,
) -> Mapping[str, ScanResult]:
    """Wait for ECR's scan of each image of `digests`, and decide which findings stop the release.

    Return cell id -> scan result; empty if the target requires no scan or is not in ECR. `requirements` has the lowest
    severity that stops the release, and the waivers; those that expired before `today` are ignored. `on_result` gets
    the cell id and the scan result of each image. Raises `RegistryError` if a scan fails, or, after all images were
    scanned and reported, with all findings that stop the release. Raises `Interrupted` if `stop` is set.
    """
    ecr = connection.ecr
    if requirements.fail_on is None or ecr is None:
        return {}
    results, vulnerabilities = {}, list[Vulnerability]()
    for item, digest in digests.items():
        repository = connection.registry.repository(item)
        print_line(f"{item.cell}: waiting for its scan")
        found = _findings(ecr, repository, digest, stop)
        vulnerabilities += found
        results[item.cell] = evaluate_scan(found, requirements.waivers, fail_on=requirements.fail_on, today=today)
    for cell, result in results.items():
        on_result(cell, result)
        for line in (scan_summary(result), *scan_lines(result)):
            print_line(f"{cell}: {line}")
    for line in unused_waivers(requirements.waivers, vulnerabilities):
        print_line(line)
    if not all(result.passed for result in results.values()):
        lines = [f"{connection.registry.name}: these scan findings stop the release:", *_blocking_lines(results)]
        raise RegistryError("\n".join(lines))
    return results


def _findings(ecr: EcrClient, repository: str, digest: str, stop: Stop) -> tuple[Vulnerability, ...]:
    """Return the vulnerabilities of the image `digest`, after its scan was started if needed and has finished."""
    return await_scan(
        lambda: ecr.scan_findings(repository, digest),
        lambda: ecr.start_scan(repository, digest),
        f"{ecr.address.host}/{repository}@{digest}",
        stop=stop,
    )


def _blocking_lines(results: Mapping[str, ScanResult]) -> Iterator[str]:
    """Yield one indented line for each finding that stops the release. `results` is cell id -> scan result."""
    for cell, result in results.items():
        if not result.passed:
            yield from (f"  {cell}: {finding}" for finding in result.blocking)


def sign_images(
    connection: RegistryConnection,
    digests: Digests,
    requirements: TargetRequirements,
    sboms: Mapping[str, str],
    *,
    folder: Path,
    context: RunContext,
    print_line: PrintLine,
) -> tuple[Verification, ...]:
    """Sign the images of `digests` with the target's key, and attest their SBOMs. Return a verification for each image.

    cosign pushes the signatures and attestations to the registry of `connection`. `sboms` is cell id -> CycloneDX JSON
    text; an image without an SBOM is only signed. An image that this key has signed already is not signed again, so the
    call can be repeated. `folder` gets the SBOMs, the public key and the log of cosign. Returns an empty tuple if the
    target has no key. Raises `RegistryError` if cosign fails or a result is not valid.
    """
    key = requirements.key
    if key is None:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    host = connection.registry.host
    verifications = []
    with temporary_docker_config(connection.credentials, [host], context.environ) as login:
        cosign = Cosign(login, context=context, log=folder / "signing.log")
        public = verification_key(cosign, key, folder)
        for item, digest in digests.items():
            image = SignedImage(host=host, repository=connection.registry.repository(item), digest=digest)
            if connection.ecr is not None:
                settings = signature_repositories(requirements.repositories)
                connection.ecr.ensure_repository(signature_repository(image.repository), settings, ())
            path = None
            if item.cell in sboms:
                path = folder / f"{item.cell}.cdx.json"
                write_text(path, sboms[item.cell])
            print_line(f"{item.cell}: signing")
            annotations = {CELL_LABEL: item.cell}
            verifications.append(sign_image(cosign, image, key, public, annotations=annotations, sbom=path))
    return tuple(verifications)
