"""Check and fulfil what a target requires of its images: few scan findings, a signature, an attested SBOM."""

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
"""Item -> the digest of its manifest in a registry."""
PrintLine = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TargetRequirements:
    """What a target requires of its images. By default nothing."""

    key: SigningKey | None = None
    """Private key that signs images and SBOMs; None for no signatures."""
    repositories: RawRepositories = field(default_factory=RawRepositories)
    """Settings of the target's ECR repositories; those of the signatures are derived from them."""
    fail_on: Severity | None = None
    """Scan findings of this severity or above stop the release; None for no scan."""
    waivers: tuple[Waiver, ...] = ()
    """Findings that are accepted until a date."""


def read_requirements(target: RawTarget, root: Path, environ: Mapping[str, str]) -> TargetRequirements:
    """Return the requirements of a target. Files are looked up in `root`, the folder of `targets.yaml`.

    Raises `UsageError` if the password of the key is not in the environment, `ConfigError` if the waivers cannot be
    read.
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
    """Checks and fulfils the requirements for all images of a release, in one registry after another."""

    requirements: TargetRequirements
    release: Release
    """Its journal records each result."""
    sboms: Mapping[str, str]
    """Cell -> the SBOM to attest, as CycloneDX JSON."""
    context: RunContext

    def check(self, connection: RegistryConnection, digests: Digests, on_progress: ReportProgress) -> None:
        """Scan, sign and attest the images of one registry, which have these digests and no tag of the matrix yet.

        Raises `RegistryError` if a finding stops the release, or an image cannot be signed.
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
    """Compare the findings of ECR's scanner with the threshold and the waivers. Return the results by cell.

    Returns nothing if the target requires no scan. All images are scanned, and reported to `on_result`, before
    `RegistryError` is raised with all findings that stop the release.
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
    return await_scan(
        lambda: ecr.scan_findings(repository, digest),
        lambda: ecr.start_scan(repository, digest),
        f"{ecr.address.host}/{repository}@{digest}",
        stop=stop,
    )


def _blocking_lines(results: Mapping[str, ScanResult]) -> Iterator[str]:
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
    """Sign the images of one registry, and attest their SBOMs (cell -> CycloneDX JSON). Return what was verified after.

    Returns nothing if the target has no key. An image that this key has signed is not signed again, so this may be
    repeated. `folder` gets the SBOMs, the public key and the log of cosign. Raises `RegistryError`.
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
