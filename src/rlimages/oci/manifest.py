"""Parse and compose OCI and Docker values: references, manifests, indexes and image configurations. No network."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlimages.errors import RegistryError

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
"""Media type of a layer that is an attestation and contains no files."""
REFERENCE_TYPE = "vnd.docker.reference.type"
"""Annotation in an index that marks the attestations that BuildKit adds to an image."""
MANIFEST_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX)
"""Media types to request. A registry may refuse or convert a manifest whose type is not in the header Accept."""
INDEX_TYPES = (DOCKER_LIST, OCI_INDEX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A descriptor: the media type, digest and size of content that a manifest refers to."""

    media_type: str
    digest: str
    """`sha256:…` of its bytes."""
    size: int
    """Bytes as stored in a registry, where layers are compressed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """An image manifest or index as a registry stores it."""

    content: bytes
    """The exact bytes: the digest depends on white space too."""
    media_type: str
    config: Blob | None
    """The configuration; its digest is the image's id in a local store. None for an index."""
    layers: tuple[Blob, ...] = ()
    """The oldest first."""

    @property
    def digest(self) -> str:
        """Return `sha256:…` of the content."""
        return sha256_digest(self.content)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Return the layers, then the configuration, each once. A registry needs them before it takes the manifest."""
        return tuple({blob.digest: blob for blob in (*self.layers, *((self.config,) if self.config else ()))}.values())

    @property
    def image(self) -> str:
        """Return the id that the image has in a local store; empty for an index."""
        return self.config.digest if self.config else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """One manifest in an index."""

    digest: str
    platform: str
    """`linux/amd64`; `unknown/unknown` for an attestation; empty if the index gives none."""
    is_attestation: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """An image configuration: platform, labels, and how a container runs."""

    os: str
    architecture: str
    created: str
    """Creation date in RFC 3339; empty if it is missing."""
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """`NAME=value`."""
    entrypoint: tuple[str, ...]
    user: str
    history: tuple[str, ...] = ()
    """The instruction of each step, with its build arguments; the oldest first."""


def parse_config(content: bytes, name: str) -> ImageConfig:
    """Parse an image configuration. Raise `RegistryError` with the image's `name` if it is not one."""
    try:
        parsed: dict[str, Any] = json.loads(content)
        config: dict[str, Any] = parsed.get("config") or {}
        return ImageConfig(
            os=str(parsed["os"]),
            architecture=str(parsed["architecture"]),
            created=str(parsed.get("created") or ""),
            labels={str(label): str(value) for label, value in (config.get("Labels") or {}).items()},
            env=tuple(map(str, config.get("Env") or ())),
            entrypoint=tuple(map(str, config.get("Entrypoint") or ())),
            user=str(config.get("User") or ""),
            history=tuple(str(step.get("created_by") or "") for step in parsed.get("history") or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{name}: this is not an image configuration ({error!r})") from error


def sha256_digest(content: bytes) -> str:
    """Return `sha256:…` of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def compose_manifest(config: Blob, layers: Sequence[Blob]) -> Manifest:
    """Return the manifest of an image, in Docker's format (schema 2).

    Users report that SageMaker rejects indexes and OCI manifests (mlflow/mlflow#13834).
    """
    content = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        },
        indent=2,
    ).encode()
    return Manifest(content=content, media_type=DOCKER_MANIFEST, config=config, layers=tuple(layers))


def parse_manifest(content: bytes, content_type: str, name: str) -> Manifest:
    """Parse a manifest or index. Raise `RegistryError` with the image's `name` if it is neither.

    `content_type` is the media type in the registry's response. An OCI manifest may lack its own.
    """
    try:
        parsed: dict[str, Any] = json.loads(content)
        config = parsed.get("config")
        return Manifest(
            content=content,
            media_type=parsed.get("mediaType") or content_type,
            config=_parse_blob(config) if config else None,
            layers=tuple(_parse_blob(layer) for layer in parsed.get("layers", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{name}: the host is not a registry, for its response is not a manifest ({error})"
        ) from error


def subject_digest(manifest: Manifest) -> str:
    """Return the digest of the manifest that this one refers to as its subject; empty if it has none."""
    subject = json.loads(manifest.content).get("subject") or {}
    return str(subject.get("digest", "")) if isinstance(subject, dict) else ""


def index_entries(index: Manifest, name: str) -> tuple[IndexEntry, ...]:
    """Return the manifests in an index. Raise `RegistryError` with the index's `name` if it is not one."""
    try:
        return tuple(_index_entry(descriptor) for descriptor in json.loads(index.content).get("manifests", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{name}: this is not an index of images ({error!r})") from error


def _index_entry(descriptor: dict[str, Any]) -> IndexEntry:
    platform: dict[str, Any] = descriptor.get("platform") or {}
    return IndexEntry(
        digest=str(descriptor["digest"]),
        platform="/".join(str(platform[key]) for key in ("os", "architecture") if key in platform),
        is_attestation=(descriptor.get("annotations") or {}).get(REFERENCE_TYPE) == "attestation-manifest",
    )


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}


def _parse_blob(descriptor: dict[str, Any]) -> Blob:
    return Blob(media_type=str(descriptor["mediaType"]), digest=str(descriptor["digest"]), size=int(descriptor["size"]))


class PackedContent(Protocol):
    """An image that can be uploaded: its manifest, and the content of its blobs."""

    @property
    def manifest(self) -> Manifest:
        """Return the manifest."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Yield the content of one blob of the manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The parts of an image reference, `host[:port]/repository:tag` or `host[:port]/repository@sha256:…`."""

    host: str
    repository: str
    tag_or_digest: str


def parse_reference(text: str) -> Reference:
    """Split an image reference. The default tag is `latest`. Raise `RegistryError` if it names no registry.

    Docker would take `team/image` from Docker Hub; here a reference without a registry is an error.
    """
    host, slash, rest = text.partition("/")
    # The rule by which Docker tells a host from the first part of a repository's name.
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise RegistryError(f"'{text}' names no registry; write it as host[:port]/repository:tag")
    name, _, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    return Reference(host=host, repository=repository, tag_or_digest=digest or tag or "latest")
