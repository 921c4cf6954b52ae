"""Pass records: an image passed a set of checks. They are stored on this machine and beside the image in its registry."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.errors import RegistryError
from rlimages.oci.manifest import OCI_MANIFEST, Blob, Manifest, sha256_digest
from rlimages.plan.results import Outcome, SmokeResult
from rlimages.registry.client import RegistryClient
from rlimages.system.files import read_text, write_atomically

RECORD_TYPE = "application/vnd.rlimages.smoke.v1+json"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class PassRecord:
    """A PASS of one suite for one image."""

    cell: str
    image: str
    """Digest of the image's configuration: its content."""
    suite: str
    """`sha256:…` of the check programs."""
    checks: Mapping[str, str]
    """Check -> outcome; `passed` or `not applicable`."""
    at: str
    """ISO 8601, UTC."""

    @property
    def tag(self) -> str:
        """How it is called beside the image."""
        return record_tag(self.image, self.suite)

    @property
    def content(self) -> bytes:
        """As it is stored."""
        words = {
            "cell": self.cell,
            "image": self.image,
            "suite": self.suite,
            "checks": dict(self.checks),
            "at": self.at,
        }
        return json.dumps(words, indent=2, sort_keys=True).encode() + b"\n"


def suite_digest(programs: Sequence[Path]) -> str:
    """What names a suite: every program's name and bytes, in any order."""
    parts = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in programs)
    return sha256_digest("\n".join(parts).encode())


def record_tag(image: str, suite: str) -> str:
    """The tag under which a registry holds the record of this content and suite."""
    return f"smoke-{image.removeprefix('sha256:')[:32]}-{suite.removeprefix('sha256:')[:32]}"


def make_record(image: str, programs: Sequence[Path], results: Sequence[SmokeResult]) -> PassRecord | None:
    """The record of these results; None unless every program passed or did not apply, and one at least passed."""
    outcomes = [result.outcome for result in results]
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    if Outcome.PASSED not in outcomes or not set(outcomes) <= good or len(results) != len(programs):
        return None
    return PassRecord(
        cell=results[0].cell.id,
        image=image,
        suite=suite_digest(programs),
        checks={result.check: result.outcome.value for result in results},
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def parse_record(content: bytes, where: str) -> PassRecord:
    """Read a record. Raises `RegistryError` naming `where` for anything else."""
    try:
        told: dict[str, Any] = json.loads(content)
        words = {name: str(told[name]) for name in ("cell", "image", "suite", "at")}
        return PassRecord(checks={str(check): str(outcome) for check, outcome in told["checks"].items()}, **words)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where}: this is no record of passed checks ({error!r})") from error


def store_record(proof: PassRecord, folder: Path) -> None:
    """Remember it on this machine."""
    write_atomically(folder / f"{proof.tag}.json", proof.content)


def newest_record(image: str, folder: Path) -> PassRecord | None:
    """The last record of this machine for an image, of whatever suite."""
    found = [parse_record(path.read_bytes(), str(path)) for path in folder.glob(f"{record_tag(image, '')}*.json")]
    return max(found, key=lambda proof: proof.at, default=None)


def attach_record(proof: PassRecord, subject: Manifest, registry: RegistryClient, repository: str) -> None:
    """Store it beside the image, which it names as its subject; one that is there stays."""
    if registry.manifest(repository, proof.tag) is not None:
        return
    empty = Blob(media_type=_EMPTY_TYPE, digest=sha256_digest(_EMPTY), size=len(_EMPTY))
    layer = Blob(media_type=RECORD_TYPE, digest=sha256_digest(proof.content), size=len(proof.content))
    registry.upload(repository, empty, lambda: iter([_EMPTY]))
    registry.upload(repository, layer, lambda: iter([proof.content]))
    words = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": RECORD_TYPE,
        "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": empty.size},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.content)},
    }
    content = json.dumps(words, indent=2).encode()
    registry.put_manifest(
        repository, proof.tag, Manifest(content=content, media_type=OCI_MANIFEST, config=empty, layers=(layer,))
    )


def find_record(
    image: str, suite: str, *, registry: RegistryClient, repository: str, folder: Path
) -> PassRecord | None:
    """The record for this content and suite, from this machine or from beside the image."""
    tag = record_tag(image, suite)
    text = read_text(folder / f"{tag}.json")
    if text is not None:
        found = parse_record(text.encode(), str(folder / f"{tag}.json"))
    else:
        manifest = registry.manifest(repository, tag)
        if manifest is None or not manifest.layers:
            return None
        found = parse_record(
            registry.blob(repository, manifest.layers[0].digest), f"{registry.host}/{repository}:{tag}"
        )
    return found if (found.image, found.suite) == (image, suite) else None
