"""What a target asks of images before their tags move: that its scanner lets them pass, and that they are signed."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rlimages import cosign, lending, scan, signing, tree
from rlimages.cosign import Subject
from rlimages.errors import MatrixError, RegistryError
from rlimages.places import Opened
from rlimages.scan import Finding, Severity, Verdict, Waiver
from rlimages.shell import Stop
from rlimages.shipment import Item
from rlimages.signing import Cosign, Key, Verified
from rlimages.targets import RawTarget

CELL = "rlimages.cell"
"""Annotation with the cell that was signed."""

Digests = Mapping[Item, str]
"""Item -> the digest under which a place has it."""
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a target asks. Nothing by default."""

    key: Key | None = None
    """What signs."""
    fail_on: Severity | None = None
    waivers: tuple[Waiver, ...] = ()


def demands_of(target: RawTarget, root: Path, environ: Mapping[str, str]) -> Demands:
    """A target's demands; the waivers' file, and a key's that is no URI, are named from `root`.

    Raises `UsageError` where a password is not set, `MatrixError` where the waivers can't be read.
    """
    key = None
    if target.sign is not None:
        name = target.sign if signing.is_uri(target.sign) else str(root / target.sign)
        key = signing.key_of(name, target.sign_password, environ)
    if target.scan is None:
        return Demands(key=key)
    waivers: tuple[Waiver, ...] = ()
    if target.scan.waivers is not None:
        path = root / target.scan.waivers
        text = tree.read(path)
        if text is None:
            raise MatrixError(f"{path}: there is no such file; the target's `scan` names it")
        waivers = scan.parse_waivers(text, target.scan.waivers)
    return Demands(key=key, fail_on=Severity[target.scan.fail_on.upper()], waivers=waivers)


def judge(
    opened: Opened,
    images: Digests,
    demands: Demands,
    *,
    today: date,
    stop: Stop,
    tell: Tell,
    note: Callable[[str, Verdict], None] = lambda _cell, _verdict: None,
) -> Mapping[str, Verdict]:
    """What the scanner's findings come to, by cell. Raises `RegistryError` naming all that stands in the way.

    Empty where the target asks for no scan. Every image is scanned, and `note` hears of it, before the first is
    complained of.
    """
    if demands.fail_on is None or opened.ecr is None:
        return {}
    verdicts, found = {}, list[Finding]()
    for item, digest in images.items():
        repository = opened.place.repository(item)
        tell(f"{item.cell}: waiting for its scan")
        findings = _findings(opened, repository, digest, stop)
        found += findings
        verdicts[item.cell] = scan.judge(findings, demands.waivers, fail_on=demands.fail_on, today=today)
    for cell, verdict in verdicts.items():
        note(cell, verdict)
        for line in (scan.summary(verdict), *scan.lines(verdict)):
            tell(f"{cell}: {line}")
    for line in scan.unused(demands.waivers, found):
        tell(line)
    if not all(verdict.passed for verdict in verdicts.values()):
        raise RegistryError("\n".join([f"{opened.place.name}: the scanner found", *_standing(verdicts)]))
    return verdicts


def sign(
    opened: Opened,
    images: Digests,
    target: RawTarget,
    demands: Demands,
    boms: Mapping[str, str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    stop: Stop,
    tell: Tell,
) -> tuple[Verified, ...]:
    """Sign all images of a place, and attest their bills of materials (cell -> CycloneDX). Raises `RegistryError`.

    Nothing where the target has no key. `folder` gets the bills, the public key and what cosign says. What was signed
    already stays as it is, so that it may be called again.
    """
    if demands.key is None:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    with lending.docker_config(opened.credentials, [opened.place.host], environ) as login:
        program = Cosign(login, environ=environ, stop=stop, log=folder / "signing.log")
        public = signing.public_half(program, demands.key, folder)
        return tuple(
            _sign(opened, item, digest, target, demands.key, public, boms.get(item.cell), program, folder, tell)
            for item, digest in images.items()
        )


def inherited(
    opened: Opened, images: Digests, key: Key, *, folder: Path, environ: Mapping[str, str], stop: Stop
) -> Mapping[str, str]:
    """As `attested`, for a key of which both halves are here; `folder` gets the public one."""
    folder.mkdir(parents=True, exist_ok=True)
    with lending.docker_config(opened.credentials, [opened.place.host], environ) as login:
        public = signing.public_half(Cosign(login, environ=environ, stop=stop), key, folder)
    return attested(opened, images, public, environ=environ, stop=stop)


def attested(
    opened: Opened,
    images: Digests,
    public: str,
    *,
    environ: Mapping[str, str],
    stop: Stop,
) -> Mapping[str, str]:
    """The bills of materials that a key attests of images of another place: cell -> CycloneDX, for a promotion.

    Raises `RegistryError` for an image that the key did not sign.
    """
    with lending.docker_config(opened.credentials, [opened.place.host], environ) as login:
        program = Cosign(login, environ=environ, stop=stop)
        return {
            item.cell: json.dumps(signing.verify(program, _subject(opened, item, digest), public).bom, indent=2)
            for item, digest in images.items()
        }


def _sign(
    opened: Opened,
    item: Item,
    digest: str,
    target: RawTarget,
    key: Key,
    public: str,
    bom: str | None,
    program: Cosign,
    folder: Path,
    tell: Tell,
) -> Verified:
    subject = _subject(opened, item, digest)
    if opened.ecr is not None:
        wanted = signing.repositories_of_signatures(target.repositories)
        opened.ecr.ensure(cosign.repository_of_signatures(subject.repository), wanted, ())
    path = None
    if bom is not None:
        path = folder / f"{item.cell}.cdx.json"
        tree.write(path, bom)
    tell(f"{item.cell}: signing")
    return signing.sign(program, subject, key, public, annotations={CELL: item.cell}, bom=path)


def _subject(opened: Opened, item: Item, digest: str) -> Subject:
    return Subject(host=opened.place.host, repository=opened.place.repository(item), digest=digest)


def _findings(opened: Opened, repository: str, digest: str, stop: Stop) -> tuple[Finding, ...]:
    control = opened.ecr
    assert control is not None
    return scan.await_findings(
        lambda: control.scan_findings(repository, digest),
        lambda: control.begin_scan(repository, digest),
        f"{opened.place.host}/{repository}@{digest}",
        stop=stop,
    )


def _standing(verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    for cell, verdict in verdicts.items():
        if not verdict.passed:
            yield from (f"  {cell}: {finding}" for finding in verdict.standing)
