"""The facts of images in a registry, which is a dictionary here."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from rlimages.checks.acceptance import apply_profile
from rlimages.checks.inspection import ImageFacts, paths_to_read, read_remote_facts
from rlimages.checks.profiles import parse_profiles
from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERENCE_TYPE,
    ImageConfig,
    Manifest,
    Reference,
    parse_manifest,
    sha256_digest,
)
from rlimages.system.context import RunContext
from rlimages.system.process import Stop

TRAINING, HOSTING = parse_profiles().by_name.values()
LABELS = {"org.opencontainers.image.title": "x", "org.opencontainers.image.version": "1.0"}


class Registry:
    """A registry of one repository."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        self.read: list[str] = []

    def read_manifest(self, _repository: str, tag_or_digest: str) -> Manifest | None:
        return self.manifests.get(tag_or_digest)

    def read_blob(self, _repository: str, digest: str) -> bytes:
        return self.blobs[digest]

    def stream_blob(self, _repository: str, digest: str) -> Iterator[bytes]:
        self.read.append(digest)
        content = self.blobs[digest]
        yield from (content[at : at + 100] for at in range(0, len(content), 100))

    def add_manifest(self, media_type: str, values: dict, *tags: str) -> Manifest:
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type} | values).encode()
        manifest = parse_manifest(content, media_type, "here")
        self.manifests |= dict.fromkeys((manifest.digest, *tags), manifest)
        return manifest

    def add_blob(self, content: bytes, media_type: str) -> dict:
        self.blobs[sha256_digest(content)] = content
        return {"mediaType": media_type, "digest": sha256_digest(content), "size": len(content)}

    def add_image(
        self, *tags: str, layers: list[dict], media_type=DOCKER_MANIFEST, config_type=DOCKER_CONFIG, **changes
    ) -> Manifest:
        config = {"os": "linux", "architecture": "amd64", "config": {"Labels": LABELS}} | changes
        blob = self.add_blob(json.dumps(config).encode(), config_type)
        return self.add_manifest(media_type, {"config": blob, "layers": layers}, *tags)

    def add_index(self, *tags: str, entries: list[tuple[Manifest, str, dict]]) -> Manifest:
        values = [
            {
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": 1,
                "annotations": annotations,
                "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True)),
            }
            for manifest, platform, annotations in entries
        ]
        return self.add_manifest(OCI_INDEX, {"manifests": values}, *tags)


def layer(*names: str, size: int = 1000) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, size
            archive.addfile(entry, io.BytesIO(b"x" * size))
    return gzip.compress(stream.getvalue())


@pytest.fixture
def registry() -> Registry:
    return Registry()


def read_facts(registry: Registry, version: str = "1.0", profile=TRAINING, stop: Stop | None = None) -> ImageFacts:
    reference = Reference(host="here:5000", repository="team/x", tag_or_digest=version)
    return read_remote_facts(registry, reference, (profile,), context=RunContext(environ={}, stop=stop or Stop()))


def broken_rules(registry: Registry, version: str = "1.0", profile=TRAINING) -> set[str]:
    return set(apply_profile(read_facts(registry, version, profile), profile).broken_rules)


def test_the_layers_of_a_registry_image_are_read_from_the_newest_to_the_oldest(registry) -> None:
    layers = [
        registry.add_blob(layer("usr/bin/train"), DOCKER_LAYER),
        registry.add_blob(layer("usr/bin/.wh.train", size=0), DOCKER_LAYER),
    ]
    registry.add_image("1.0", layers=layers)
    facts = read_facts(registry)
    assert registry.read == [layers[1]["digest"], layers[0]["digest"]]
    assert facts.path_kinds == {}
    assert facts.unpacked_size == 1000
    assert facts.bytes_read == sum(map(len, registry.blobs.values())) + len(facts.manifest.content)
    assert broken_rules(registry) == {"programs"}


def test_a_good_registry_image_is_accepted_by_tag_and_by_digest(registry) -> None:
    manifest = registry.add_image("1.0", layers=[registry.add_blob(layer("usr/bin/train"), DOCKER_LAYER)])
    assert broken_rules(registry) == set()
    assert broken_rules(registry, manifest.digest) == set()
    assert read_facts(registry, manifest.digest).tags == ()


def test_the_facts_of_an_index_are_those_of_its_image_for_the_platform_of_the_profile(registry) -> None:
    layers = [registry.add_blob(layer("usr/bin/train"), DOCKER_LAYER)]
    other = registry.add_image(layers=[], media_type=OCI_MANIFEST, config_type=OCI_CONFIG, architecture="arm64")
    image = registry.add_image(layers=layers, media_type=OCI_MANIFEST, config_type=OCI_CONFIG)
    attestation = registry.add_image(
        layers=[], media_type=OCI_MANIFEST, config_type=OCI_CONFIG, os="unknown", architecture="unknown"
    )
    annotations = {REFERENCE_TYPE: "attestation-manifest"}
    registry.add_index(
        "1.0",
        entries=[(attestation, "unknown/unknown", annotations), (other, "linux/arm64", {}), (image, "linux/amd64", {})],
    )
    assert broken_rules(registry) == {"index", "attestation", "manifest"}
    assert read_facts(registry).config.architecture == "amd64"


def test_an_index_of_other_platforms_breaks_the_platform_rule_too(registry) -> None:
    image = registry.add_image(layers=[], media_type=OCI_MANIFEST, config_type=OCI_CONFIG, architecture="arm64")
    registry.add_index("1.0", entries=[(image, "linux/arm64", {})])
    assert {"index", "platform"} <= broken_rules(registry)


def test_layers_that_cannot_be_decompressed_are_not_fetched(registry) -> None:
    registry.add_image("1.0", layers=[registry.add_blob(b"(\xb5/\xfd", f"{OCI_MANIFEST}.tar+zstd")])
    assert broken_rules(registry) == {"layers"}
    assert registry.read == []


@pytest.mark.parametrize("content", [b"no archive", b"", layer("a")[:-40]], ids=["other", "nothing", "cut"])
def test_a_layer_whose_content_is_not_what_the_manifest_says_is_an_error(registry, content) -> None:
    manifest = registry.add_blob(layer("a", "b"), DOCKER_LAYER)
    registry.add_image("1.0", layers=[manifest])
    registry.blobs[manifest["digest"]] = content
    with pytest.raises(RegistryError, match=f"layer {manifest['digest']}"):
        read_facts(registry)


def test_a_reference_that_does_not_exist_is_an_error_with_a_remedy(registry) -> None:
    with pytest.raises(
        RegistryError, match=r"here:5000 has no team/x:1\.0; push it, or give the name of a local image"
    ):
        read_facts(registry)


def test_reading_layers_can_be_interrupted(registry) -> None:
    registry.add_image("1.0", layers=[registry.add_blob(layer("a"), DOCKER_LAYER)])
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted):
        read_facts(registry, stop=stop)


def test_a_program_is_looked_for_in_the_folders_of_the_profile_and_on_the_path_of_the_image() -> None:
    config = ImageConfig(
        os="linux",
        architecture="amd64",
        created="",
        labels={},
        env=("PATH=/opt/venv/bin:relative:/usr/bin", "LANG=C.UTF-8"),
        entrypoint=(),
        user="",
    )
    assert paths_to_read(config, (TRAINING, HOSTING)) == (
        "/opt/ml/output/intermediate",
        "/opt/venv/bin/train",
        "/usr/bin/train",
        "/usr/local/lib/rlimages/serve",
        "/opt/venv/bin/serve",
        "/usr/bin/serve",
    )
