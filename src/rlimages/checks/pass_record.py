"""Make, store and find pass records. A pass record states that an image passed all its checks.

Records are stored on this machine and beside the image in its registry. A promotion, and the reuse of an image from a
registry, need the pass record of exactly this image and these checks. The check cache (`smoke`) is a different thing:
it has the results of single checks on this machine, to save time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.checks.suite import suite_digest
from rlimages.errors import RegistryError
from rlimages.oci.manifest import OCI_MANIFEST, Blob, Manifest, sha256_digest
from rlimages.plan.results import Outcome, SmokeResult
from rlimages.registry.client import RegistryClient
from rlimages.system.files import read_text, write_atomically

RECORD_TYPE = "application/vnd.rlimages.smoke.v1+json"
"""Media type of a pass record in a registry, as artifact type and as type of its only layer."""
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
"""The media type of an artifact's empty configuration (OCI image specification, "Guidance for an Empty Descriptor")."""
_DIGITS_IN_TAG = 32
"""Hexadecimal digits of each digest in a record's tag. Two whole digests would be longer than a tag may be (128)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassRecord:
    """The statement that one image passed one suite (all check programs of a cell)."""

    cell: str
    """Id of the cell that the image was checked for."""
    image: str
    """`sha256:…` of the image's configuration, which includes the digests of its layers."""
    suite: str
    """`sha256:…` of the names and contents of the check programs, see `suite.suite_digest`."""
    checks: Mapping[str, str]
    """Name of the check -> outcome, which is `passed` or `not applicable`."""
    at: str
    """Time of the checks: ISO 8601, UTC."""

    @property
    def tag(self) -> str:
        """The tag of the record in the image's repository; on this machine, its file is `<tag>.json`."""
        return record_tag(self.image, self.suite)

    @property
    def content(self) -> bytes:
        """The bytes of the record in a file or a registry: JSON with sorted keys."""
        values = {
            "cell": self.cell,
            "image": self.image,
            "suite": self.suite,
            "checks": dict(self.checks),
            "at": self.at,
        }
        return json.dumps(values, indent=2, sort_keys=True).encode() + b"\n"


def record_tag(image: str, suite: str) -> str:
    """Return the tag under which a registry has a pass record: `smoke-<digits>-<digits>`.

    `image` is the image's id (the digest of its configuration), `suite` the digest of its check programs.
    """
    return f"smoke-{_digits(image)}-{_digits(suite)}"


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_DIGITS_IN_TAG]


def make_record(image: str, programs: Sequence[Path], results: Sequence[SmokeResult]) -> PassRecord | None:
    """Return a pass record with the current time, or None if the image did not pass.

    `image` is the image's id, `programs` are the check programs of its cell, and `results` their results. The image
    passed if each program has a result, at least one passed, and all others passed or did not apply.
    """
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


def parse_record(content: bytes, source: str) -> PassRecord:
    """Return the pass record in `content`, the bytes of a file or of a blob in a registry.

    Raises `RegistryError` if it is not a pass record; `source` is the file or reference that the message names.
    """
    try:
        values: dict[str, Any] = json.loads(content)
        texts = {name: str(values[name]) for name in ("cell", "image", "suite", "at")}
        return PassRecord(checks={str(check): str(outcome) for check, outcome in values["checks"].items()}, **texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{source}: this is not a pass record ({error!r})") from error


def store_record(record: PassRecord, folder: Path) -> None:
    """Write a pass record to the file `<tag>.json` in `folder`. An existing file is replaced."""
    write_atomically(folder / f"{record.tag}.json", record.content)


def newest_record(image: str, folder: Path) -> PassRecord | None:
    """Return the newest pass record in `folder` for an image, of any suite; None if there is none.

    `image` is the image's id. The time of the checks decides which record is the newest.
    """
    paths = folder.glob(f"{record_tag(image, '')}*.json")
    records = [parse_record(path.read_bytes(), str(path)) for path in paths]
    return max(records, key=lambda record: record.at, default=None)


def attach_record(record: PassRecord, subject: Manifest, registry: RegistryClient, repository: str) -> None:
    """Push a pass record to `repository`, as an OCI artifact whose subject is the image's manifest `subject`.

    If `repository` has a record with this tag, nothing is pushed: the first record has the time of the checks.
    """
    if registry.read_manifest(repository, record.tag) is not None:
        return
    empty = Blob(media_type=_EMPTY_TYPE, digest=sha256_digest(_EMPTY), size=len(_EMPTY))
    layer = Blob(media_type=RECORD_TYPE, digest=sha256_digest(record.content), size=len(record.content))
    registry.upload_blob(repository, empty, lambda: iter([_EMPTY]))
    registry.upload_blob(repository, layer, lambda: iter([record.content]))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": RECORD_TYPE,
        "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": empty.size},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.content)},
    }
    content = json.dumps(manifest, indent=2).encode()
    registry.put_manifest(
        repository, record.tag, Manifest(content=content, media_type=OCI_MANIFEST, config=empty, layers=(layer,))
    )


def find_record(
    image: str, suite: str, *, registry: RegistryClient, repository: str, folder: Path
) -> PassRecord | None:
    """Return the pass record of an image and a suite; None if there is none, or if it states other digests than these.

    `image` is the image's id, `suite` the digest of its check programs. The record is searched in `folder` on this
    machine, then in `repository`, the image's repository in `registry`. Raises `RegistryError` if the stored record
    cannot be parsed.
    """
    tag = record_tag(image, suite)
    path = folder / f"{tag}.json"
    text = read_text(path)
    if text is not None:
        record = parse_record(text.encode(), str(path))
    else:
        manifest = registry.read_manifest(repository, tag)
        if manifest is None or not manifest.layers:
            return None
        content = registry.read_blob(repository, manifest.layers[0].digest)
        record = parse_record(content, f"{registry.host}/{repository}:{tag}")
    # The tag has only a part of the digests, and anybody who may push can set it.
    return record if (record.image, record.suite) == (image, suite) else None
