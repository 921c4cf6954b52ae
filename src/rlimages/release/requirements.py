"""What a target requires of its images: scan findings below a threshold, signatures, SBOM attestations."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rlimages.errors import ConfigError, RegistryError
from rlimages.oci.labels import CELL_LABEL
from rlimages.registry.auth import temporary_docker_config
from rlimages.release.model import RegistryConnection, ReleaseItem
from rlimages.release.targets import RawTarget
from rlimages.supplychain.cosign import SignedImage, signature_repository
from rlimages.supplychain.scan import (
    ScanResult,
    Severity,
    Vulnerability,
    Waiver,
    await_findings,
    evaluate_findings,
    parse_waivers,
    scan_lines,
    scan_summary,
    unused_waivers,
)
from rlimages.supplychain.signing import (
    Cosign,
    Key,
    Verification,
    is_key_uri,
    public_key,
    sign_image,
    signature_repositories,
    signing_key,
    verify_image,
)
from rlimages.system.files import read_text, write_text
from rlimages.system.process import Stop

Digests = Mapping[ReleaseItem, str]
"""Item -> the digest under which a place has it."""
ReportProgress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a target asks. Nothing by default."""

    key: Key | None = None
    """What signs."""
    fail_on: Severity | None = None
    waivers: tuple[Waiver, ...] = ()


def read_requirements(target: RawTarget, root: Path, environ: Mapping[str, str]) -> Requirements:
    """A target's demands; the waivers' file, and a key's that is no URI, are named from `root`.

    Raises `UsageError` where a password is not set, `ConfigError` where the waivers can't be read.
    """
    key = None
    if target.sign is not None:
        name = target.sign if is_key_uri(target.sign) else str(root / target.sign)
        key = signing_key(name, target.sign_password, environ)
    if target.scan is None:
        return Requirements(key=key)
    waivers: tuple[Waiver, ...] = ()
    if target.scan.waivers is not None:
        path = root / target.scan.waivers
        text = read_text(path)
        if text is None:
            raise ConfigError(f"{path}: there is no such file; the target's `scan` names it")
        waivers = parse_waivers(text, target.scan.waivers)
    return Requirements(key=key, fail_on=Severity[target.scan.fail_on.upper()], waivers=waivers)


def check_scans(
    opened: RegistryConnection,
    images: Digests,
    demands: Requirements,
    *,
    today: date,
    stop: Stop,
    tell: ReportProgress,
    note: Callable[[str, ScanResult], None] = lambda _cell, _verdict: None,
) -> Mapping[str, ScanResult]:
    """What the scanner's findings come to, by cell. Raises `RegistryError` naming all that stands in the way.

    Empty where the target asks for no scan. Every image is scanned, and `note` hears of it, before the first is
    complained of.
    """
    if demands.fail_on is None or opened.ecr is None:
        return {}
    verdicts, found = {}, list[Vulnerability]()
    for item, digest in images.items():
        repository = opened.place.repository(item)
        tell(f"{item.cell}: waiting for its scan")
        findings = _findings(opened, repository, digest, stop)
        found += findings
        verdicts[item.cell] = evaluate_findings(findings, demands.waivers, fail_on=demands.fail_on, today=today)
    for cell, verdict in verdicts.items():
        note(cell, verdict)
        for line in (scan_summary(verdict), *scan_lines(verdict)):
            tell(f"{cell}: {line}")
    for line in unused_waivers(demands.waivers, found):
        tell(line)
    if not all(verdict.passed for verdict in verdicts.values()):
        raise RegistryError("\n".join([f"{opened.place.name}: the scanner found", *_standing(verdicts)]))
    return verdicts


def sign_images(
    opened: RegistryConnection,
    images: Digests,
    target: RawTarget,
    demands: Requirements,
    boms: Mapping[str, str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    stop: Stop,
    tell: ReportProgress,
) -> tuple[Verification, ...]:
    """Sign all images of a place, and attest their bills of materials (cell -> CycloneDX). Raises `RegistryError`.

    Nothing where the target has no key. `folder` gets the bills, the public key and what cosign says. What was signed
    already stays as it is, so that it may be called again.
    """
    if demands.key is None:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_docker_config(opened.credentials, [opened.place.host], environ) as login:
        program = Cosign(login, environ=environ, stop=stop, log=folder / "signing.log")
        public = public_key(program, demands.key, folder)
        return tuple(
            _sign_item(opened, item, digest, target, demands.key, public, boms.get(item.cell), program, folder, tell)
            for item, digest in images.items()
        )


def inherited_sboms(
    opened: RegistryConnection, images: Digests, key: Key, *, folder: Path, environ: Mapping[str, str], stop: Stop
) -> Mapping[str, str]:
    """As `attested`, for a key of which both halves are here; `folder` gets the public one."""
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_docker_config(opened.credentials, [opened.place.host], environ) as login:
        public = public_key(Cosign(login, environ=environ, stop=stop), key, folder)
    return verified_sboms(opened, images, public, environ=environ, stop=stop)


def verified_sboms(
    opened: RegistryConnection,
    images: Digests,
    public: str,
    *,
    environ: Mapping[str, str],
    stop: Stop,
) -> Mapping[str, str]:
    """The bills of materials that a key attests of images of another place: cell -> CycloneDX, for a promotion.

    Raises `RegistryError` for an image that the key did not sign.
    """
    with temporary_docker_config(opened.credentials, [opened.place.host], environ) as login:
        program = Cosign(login, environ=environ, stop=stop)
        return {
            item.cell: json.dumps(verify_image(program, _subject(opened, item, digest), public).bom, indent=2)
            for item, digest in images.items()
        }


def _sign_item(
    opened: RegistryConnection,
    item: ReleaseItem,
    digest: str,
    target: RawTarget,
    key: Key,
    public: str,
    bom: str | None,
    program: Cosign,
    folder: Path,
    tell: ReportProgress,
) -> Verification:
    subject = _subject(opened, item, digest)
    if opened.ecr is not None:
        wanted = signature_repositories(target.repositories)
        opened.ecr.ensure(signature_repository(subject.repository), wanted, ())
    path = None
    if bom is not None:
        path = folder / f"{item.cell}.cdx.json"
        write_text(path, bom)
    tell(f"{item.cell}: signing")
    return sign_image(program, subject, key, public, annotations={CELL_LABEL: item.cell}, bom=path)


def _subject(opened: RegistryConnection, item: ReleaseItem, digest: str) -> SignedImage:
    return SignedImage(host=opened.place.host, repository=opened.place.repository(item), digest=digest)


def _findings(opened: RegistryConnection, repository: str, digest: str, stop: Stop) -> tuple[Vulnerability, ...]:
    control = opened.ecr
    assert control is not None
    return await_findings(
        lambda: control.scan_findings(repository, digest),
        lambda: control.begin_scan(repository, digest),
        f"{opened.place.host}/{repository}@{digest}",
        stop=stop,
    )


def _standing(verdicts: Mapping[str, ScanResult]) -> Iterator[str]:
    for cell, verdict in verdicts.items():
        if not verdict.passed:
            yield from (f"  {cell}: {finding}" for finding in verdict.standing)
