"""A registry in memory that records its requests, and a release of two images to it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlimages.oci.labels import VERSION_LABEL
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, Manifest, compose_manifest, sha256_digest
from rlimages.registry.auth import Credentials
from rlimages.registry.request_counter import RequestCounter
from rlimages.release.journal import Journal, Release
from rlimages.release.model import RegistryConnection, ReleaseItem, TargetRegistry
from rlimages.release.transaction import ReleaseTransaction
from rlimages.system.process import Stop


class Image:
    """A small image. The same image has another layer blob, and so another digest, with another `packing`."""

    def __init__(self, name: str, version: str, packing: str = "", labels: Mapping[str, str] | None = None) -> None:
        labels = {VERSION_LABEL: version, **(labels or {})}
        config = json.dumps(
            {"os": "linux", "architecture": "amd64", "name": name, "config": {"Labels": labels}}
        ).encode()
        layer = f"{name} {version} {packing}".encode()
        self.content = {sha256_digest(config): config, sha256_digest(layer): layer}
        self.manifest = compose_manifest(
            Blob(media_type=DOCKER_CONFIG, digest=sha256_digest(config), size=len(config)),
            [Blob(media_type=DOCKER_LAYER, digest=sha256_digest(layer), size=len(layer))],
        )

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        yield self.content[blob.digest]


class MemoryRegistry:
    """Stands for a `RegistryClient`. Its requests are recorded together with the events of a journal, in order."""

    host = "registry"

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.manifests: dict[tuple[str, str], Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        self.can_delete = True

    def put(self, repository: str, tag: str, image: Image) -> None:
        """Store an image without a request."""
        self.manifests[repository, tag] = self.manifests[repository, image.manifest.digest] = image.manifest
        self.blobs.update(image.content)

    def tag_digest(self, repository: str, tag: str) -> str | None:
        manifest = self.manifests.get((repository, tag))
        return manifest.digest if manifest else None

    def read_manifest(self, repository: str, tag_or_digest: str) -> Manifest | None:
        return self.manifests.get((repository, tag_or_digest))

    def put_manifest(self, repository: str, tag_or_digest: str, manifest: Manifest) -> None:
        self.log.append(f"put {repository}:{tag_or_digest}")
        self.manifests[repository, tag_or_digest] = self.manifests[repository, manifest.digest] = manifest

    def delete_manifest(self, repository: str, tag_or_digest: str) -> bool:
        self.log.append(f"delete {repository}:{tag_or_digest}")
        return self.can_delete and self.manifests.pop((repository, tag_or_digest), None) is not None

    def has_blob(self, _repository: str, digest: str) -> bool:
        return digest in self.blobs

    def upload_blob(self, repository: str, blob: Blob, chunks, *, sources: tuple[str, ...] = ()) -> bool:
        self.log.append(f"upload to {repository}" + (f", mountable from {sources}" if sources else ""))
        self.blobs[blob.digest] = b"".join(chunks())
        return True

    def read_blob(self, _repository: str, digest: str) -> bytes:
        return self.blobs[digest]

    def close(self) -> None:
        self.log.append("close")


class RecordedJournal(Journal):
    """A journal that records the name of each event in the log of the registry."""

    def __init__(self, path: Path, log: list[str]) -> None:
        super().__init__(path)
        self.log = log

    def write(self, event) -> None:
        subject = " ".join(filter(None, [getattr(event, "cell", ""), getattr(event, "tag", "")]))
        self.log.append(f"{type(event).__name__} {subject}".strip())
        super().write(event)


@dataclass
class Scene:
    """A release of the images `a` and `b`, version 2.0, under two tags each, to one registry."""

    folder: Path
    expires_untagged: bool = False
    source: str = ""
    images: dict[str, Image] = field(default_factory=lambda: {name: Image(name, "2.0") for name in "ab"})
    mountable: tuple[str, ...] = ()
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = MemoryRegistry(self.log)
        registry = TargetRegistry(
            name="target/us", host="registry", prefix="team", floating=("latest",),
            expires_untagged=self.expires_untagged,
        )  # fmt: skip
        self.connection = RegistryConnection(
            registry=registry, client=self.client, counter=RequestCounter(), credentials=Credentials()
        )

    @property
    def release(self) -> Release:
        """The release as a new process reads it from its journal."""
        items = tuple(
            ReleaseItem(cell=name, repository=name, image=image.manifest.image, tags=("2.0", "latest"))
            for name, image in self.images.items()
        )
        journal = RecordedJournal(self.folder / "r1" / "journal.jsonl", self.log)
        return Release(name="r1", target="target", items=items, journal=journal, source=self.source)

    def transaction(self, *, stop: Stop | None = None, allow_older: bool = False) -> ReleaseTransaction:
        return ReleaseTransaction(self.connection, self.release, stop=stop or Stop(), allow_older=allow_older)

    def run(self, *, allow_older: bool = False) -> ReleaseTransaction:
        transaction = self.transaction(allow_older=allow_older)
        transaction.upload(self)
        transaction.move_tags()
        return transaction

    def fetch(self, item: ReleaseItem, _destination: RegistryConnection, _is_wanted) -> Image:
        return self.images[item.cell]

    def mountable_from(self, _destination: RegistryConnection) -> tuple[str, ...]:
        return self.mountable

    def digests(self, tag: str) -> dict[str, str | None]:
        return {name: self.client.tag_digest(f"team/{name}", tag) for name in "ab"}

    @property
    def new(self) -> dict[str, str]:
        return {name: image.manifest.digest for name, image in self.images.items()}


@pytest.fixture
def scene(tmp_path):
    def scene(**words) -> Scene:
        return Scene(folder=tmp_path, **words)

    return scene


@pytest.fixture
def image():
    return Image
