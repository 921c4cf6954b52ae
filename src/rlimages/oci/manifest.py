"""Parse and compose references, manifests, indexes and image configurations, of OCI and of Docker. No network."""

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
"""Media types for the header Accept.

A registry may refuse or convert a manifest whose type the header does not list.
"""
INDEX_TYPES = (DOCKER_LIST, OCI_INDEX)
"""Media types of an index, which lists manifests, for example one for each platform."""


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
    """The image configuration; its digest is the image's id in a local store. None for an index."""
    layers: tuple[Blob, ...] = ()
    """The layers of the image, the oldest first; empty for an index."""

    @property
    def digest(self) -> str:
        """The digest `sha256:…` of `content`, by which a registry stores the manifest."""
        return sha256_digest(self.content)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The layers, then the configuration, each blob once.

        A registry needs all of them before it accepts the manifest.
        """
        # an image may have a layer twice, but a registry stores it once
        return tuple({blob.digest: blob for blob in (*self.layers, *((self.config,) if self.config else ()))}.values())

    @property
    def image(self) -> str:
        """The id that the image has in a local store (the digest of its configuration); empty for an index."""
        return self.config.digest if self.config else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """One manifest that an index lists."""

    digest: str
    """Digest (`sha256:…`) of the manifest."""
    platform: str
    """`linux/amd64`; `unknown/unknown` for an attestation; empty if the index gives none."""
    is_attestation: bool
    """True if the manifest is an attestation that BuildKit added, and not an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """An image configuration: platform, labels, and how a container runs."""

    os: str
    architecture: str
    created: str
    """Creation date in RFC 3339; empty if it is missing."""
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """Environment variables as `NAME=value`."""
    entrypoint: tuple[str, ...]
    user: str
    """User, or user and group, that containers run as; empty for root."""
    history: tuple[str, ...] = ()
    """The instruction of each step of the build, with its build arguments; the oldest first."""


def parse_config(content: bytes, name: str) -> ImageConfig:
    """Return the image configuration in the JSON text `content`.

    Raise `RegistryError` if it is not an image configuration; `name` is the image's name in the message.
    """
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
    """Return the digest of `content`: `sha256:` and its SHA-256 in hexadecimal."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def compose_manifest(config: Blob, layers: Sequence[Blob]) -> Manifest:
    """Return the manifest, in Docker's format (schema 2), of an image with `config` and `layers`, the oldest first."""
    # Not OCI's format: users report that SageMaker rejects indexes and OCI manifests (mlflow/mlflow#13834).
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
    """Return the manifest or index in the JSON text `content`, a response of a registry.

    `content_type` is the media type in the header of the response, for an OCI manifest that does not contain its own.
    Raise `RegistryError` if the content is no manifest and no index; `name` is the image's name in the message.
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
    """Return the digest of the subject of `manifest`: the manifest that it describes, as a signature or SBOM does.

    Return an empty string if it has no subject.
    """
    subject = json.loads(manifest.content).get("subject") or {}
    return str(subject.get("digest", "")) if isinstance(subject, dict) else ""


def index_entries(index: Manifest, name: str) -> tuple[IndexEntry, ...]:
    """Return the manifests that `index` lists; an empty tuple if it lists none.

    Raise `RegistryError` if its content is not an index; `name` is the name of the index in the message.
    """
    try:
        return tuple(_index_entry(descriptor) for descriptor in json.loads(index.content).get("manifests", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{name}: this is not an index of images ({error!r})") from error


def _index_entry(descriptor: dict[str, Any]) -> IndexEntry:
    """Return the entry of an index for `descriptor`, the JSON object that describes one manifest."""
    platform: dict[str, Any] = descriptor.get("platform") or {}
    return IndexEntry(
        digest=str(descriptor["digest"]),
        platform="/".join(str(platform[key]) for key in ("os", "architecture") if key in platform),
        is_attestation=(descriptor.get("annotations") or {}).get(REFERENCE_TYPE) == "attestation-manifest",
    )


def _descriptor(blob: Blob) -> dict[str, Any]:
    """Return `blob` as the JSON object by which a manifest refers to it."""
    return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}


def _parse_blob(descriptor: dict[str, Any]) -> Blob:
    """Return the blob that `descriptor`, a JSON object in a manifest, refers to."""
    return Blob(media_type=str(descriptor["mediaType"]), digest=str(descriptor["digest"]), size=int(descriptor["size"]))


class PackedContent(Protocol):
    """An image that can be uploaded: its manifest, and the content of its blobs."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, which lists all blobs of the image."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """Yield the bytes of `blob`, which is one of the manifest's blobs, in chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The parts of an image reference, `host[:port]/repository:tag` or `host[:port]/repository@sha256:…`."""

    host: str
    """Host of the registry, with its port if the reference gives one."""
    repository: str
    tag_or_digest: str
    """The digest (`sha256:…`) if the reference has one, else the tag."""


def parse_reference(text: str) -> Reference:
    """Return the parts of the image reference `text`. The default tag is `latest`.

    Raise `RegistryError` if it names no registry. (Docker would look for `team/image` in Docker Hub.)
    """
    host, slash, rest = text.partition("/")
    # The rule by which Docker tells a host from the first part of a repository's name.
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise RegistryError(f"'{text}' names no registry; write it as host[:port]/repository:tag")
    name, _, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    return Reference(host=host, repository=repository, tag_or_digest=digest or tag or "latest")
