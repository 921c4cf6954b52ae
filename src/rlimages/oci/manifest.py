"""OCI and Docker values: references, descriptors, manifests, indexes and image configurations. No network."""

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
"""A layer of an attestation."""
REFERENCE_TYPE = "vnd.docker.reference.type"
"""The annotation by which an index tells BuildKit's attestations from images."""
MEDIA_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX)
INDEXES = (DOCKER_LIST, OCI_INDEX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """Content that a manifest names."""

    media_type: str
    digest: str
    """`sha256:…` of its bytes."""
    size: int
    """In bytes, as stored: layers are compressed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a registry holds under a reference, byte for byte."""

    content: bytes
    media_type: str
    config: Blob | None
    """The configuration, whose digest is the image's id in a local store; None for an index."""
    layers: tuple[Blob, ...] = ()
    """The base's first."""

    @property
    def digest(self) -> str:
        """`sha256:…` of its bytes."""
        return sha256_digest(self.content)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All that must be there before the manifest may come: layers, then the configuration; each once."""
        return tuple({blob.digest: blob for blob in (*self.layers, *((self.config,) if self.config else ()))}.values())

    @property
    def image(self) -> str:
        """Id of the image in a local store; empty for an index."""
        return self.config.digest if self.config else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """A manifest that an index names."""

    digest: str
    platform: str
    """`linux/amd64`; `unknown/unknown` for what is no image, empty where the index does not say."""
    is_attestation: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """What an image says about itself."""

    os: str
    architecture: str
    created: str
    """RFC 3339; empty where it does not say."""
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """`NAME=value`."""
    entrypoint: tuple[str, ...]
    user: str
    history: tuple[str, ...] = ()
    """What made each layer, with its build arguments; the first one first."""


def parse_config(content: bytes, where: str) -> ImageConfig:
    """Read an image's configuration. Raises `RegistryError` naming `where` for anything else."""
    try:
        told: dict[str, Any] = json.loads(content)
        run: dict[str, Any] = told.get("config") or {}
        return ImageConfig(
            os=str(told["os"]),
            architecture=str(told["architecture"]),
            created=str(told.get("created") or ""),
            labels={str(name): str(value) for name, value in (run.get("Labels") or {}).items()},
            env=tuple(map(str, run.get("Env") or ())),
            entrypoint=tuple(map(str, run.get("Entrypoint") or ())),
            user=str(run.get("User") or ""),
            history=tuple(str(step.get("created_by") or "") for step in told.get("history") or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where}: this is no configuration of an image ({error!r})") from error


def sha256_digest(content: bytes) -> str:
    """`sha256:…` of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def compose_manifest(config: Blob, layers: Sequence[Blob]) -> Manifest:
    """The manifest of an image, of the one type that SageMaker takes: Docker's schema 2, no index."""
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


def parse_manifest(content: bytes, announced: str, where: str) -> Manifest:
    """Take a manifest apart; `announced` is the media type of the answer that brought it.

    Raises `RegistryError` naming `where` for anything else than a manifest.
    """
    try:
        told: dict[str, Any] = json.loads(content)
        config = told.get("config")
        return Manifest(
            content=content,
            media_type=told.get("mediaType") or announced,
            config=_parse_blob(config) if config else None,
            layers=tuple(_parse_blob(layer) for layer in told.get("layers", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where}: what answers there is not a registry ({error})") from error


def subject_digest(manifest: Manifest) -> str:
    """The digest of the manifest that this one is about; empty where it is about none."""
    told = json.loads(manifest.content).get("subject") or {}
    return str(told.get("digest", "")) if isinstance(told, dict) else ""


def index_entries(index: Manifest, where: str) -> tuple[IndexEntry, ...]:
    """What an index names. Raises `RegistryError` naming `where` for anything else than an index."""
    try:
        return tuple(_index_entry(told) for told in json.loads(index.content).get("manifests", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where}: this is no index of images ({error!r})") from error


def _index_entry(told: dict[str, Any]) -> IndexEntry:
    runs_on: dict[str, Any] = told.get("platform") or {}
    return IndexEntry(
        digest=str(told["digest"]),
        platform="/".join(str(runs_on[word]) for word in ("os", "architecture") if word in runs_on),
        is_attestation=(told.get("annotations") or {}).get(REFERENCE_TYPE) == "attestation-manifest",
    )


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}


def _parse_blob(told: dict[str, Any]) -> Blob:
    return Blob(media_type=str(told["mediaType"]), digest=str(told["digest"]), size=int(told["size"]))


class PackedContent(Protocol):
    """An image that can be brought to a registry."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """A blob, piece by piece."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """`host[:port]/repository:tag` or `…@sha256:…`, taken apart."""

    host: str
    repository: str
    version: str
    """A tag or a digest."""


def parse_reference(text: str) -> Reference:
    """Take a reference apart. Raises `RegistryError` where no registry is named: we guess none."""
    host, slash, rest = text.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise RegistryError(f"'{text}' names no registry; write it as host[:port]/repository:tag")
    name, _, version = rest.partition("@")
    repository, _, tag = name.partition(":")
    return Reference(host=host, repository=repository, version=version or tag or "latest")
