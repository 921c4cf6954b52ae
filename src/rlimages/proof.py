"""The record that an image passed its checks: which content, which suite, when. Beside the image, and on this machine.

Promotion asks for it, so it is named after both: another image, or one changed check, and there is no such record.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages import distribution, tree
from rlimages.distribution import OCI_MANIFEST, Blob, Manifest
from rlimages.errors import RegistryError
from rlimages.registry import Registry
from rlimages.results import Outcome, SmokeResult

TYPE = "application/vnd.rlimages.smoke.v1+json"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
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
        return tag_of(self.image, self.suite)

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


def suite_of(programs: Sequence[Path]) -> str:
    """What names a suite: every program's name and bytes, in any order."""
    parts = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in programs)
    return distribution.digest("\n".join(parts).encode())


def tag_of(image: str, suite: str) -> str:
    """The tag under which a registry holds the record of this content and suite."""
    return f"smoke-{image.removeprefix('sha256:')[:32]}-{suite.removeprefix('sha256:')[:32]}"


def prove(image: str, programs: Sequence[Path], results: Sequence[SmokeResult]) -> Proof | None:
    """The record of these results; None unless every program passed or did not apply, and one at least passed."""
    outcomes = [result.outcome for result in results]
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    if Outcome.PASSED not in outcomes or not set(outcomes) <= good or len(results) != len(programs):
        return None
    return Proof(
        cell=results[0].cell.id,
        image=image,
        suite=suite_of(programs),
        checks={result.check: result.outcome.value for result in results},
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def parse(content: bytes, where: str) -> Proof:
    """Read a record. Raises `RegistryError` naming `where` for anything else."""
    try:
        told: dict[str, Any] = json.loads(content)
        words = {name: str(told[name]) for name in ("cell", "image", "suite", "at")}
        return Proof(checks={str(check): str(outcome) for check, outcome in told["checks"].items()}, **words)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where}: this is no record of passed checks ({error!r})") from error


def keep(proof: Proof, folder: Path) -> None:
    """Remember it on this machine."""
    tree.replace(folder / f"{proof.tag}.json", proof.content)


def newest(image: str, folder: Path) -> Proof | None:
    """The last record of this machine for an image, of whatever suite."""
    found = [parse(path.read_bytes(), str(path)) for path in folder.glob(f"{tag_of(image, '')}*.json")]
    return max(found, key=lambda proof: proof.at, default=None)


def attach(proof: Proof, subject: Manifest, registry: Registry, repository: str) -> None:
    """Store it beside the image, which it names as its subject; one that is there stays."""
    if registry.manifest(repository, proof.tag) is not None:
        return
    empty = Blob(media_type=_EMPTY_TYPE, digest=distribution.digest(_EMPTY), size=len(_EMPTY))
    layer = Blob(media_type=TYPE, digest=distribution.digest(proof.content), size=len(proof.content))
    registry.upload(repository, empty, lambda: iter([_EMPTY]))
    registry.upload(repository, layer, lambda: iter([proof.content]))
    words = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": TYPE,
        "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": empty.size},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.content)},
    }
    content = json.dumps(words, indent=2).encode()
    registry.put_manifest(
        repository, proof.tag, Manifest(content=content, media_type=OCI_MANIFEST, config=empty, layers=(layer,))
    )


def find(image: str, suite: str, *, registry: Registry, repository: str, folder: Path) -> Proof | None:
    """The record for this content and suite, from this machine or from beside the image."""
    tag = tag_of(image, suite)
    text = tree.read(folder / f"{tag}.json")
    if text is not None:
        found = parse(text.encode(), str(folder / f"{tag}.json"))
    else:
        manifest = registry.manifest(repository, tag)
        if manifest is None or not manifest.layers:
            return None
        found = parse(registry.blob(repository, manifest.layers[0].digest), f"{registry.host}/{repository}:{tag}")
    return found if (found.image, found.suite) == (image, suite) else None
