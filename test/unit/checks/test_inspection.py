"""Images of a registry that is a dictionary, and of a store that is one too."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from rlimages.checks.acceptance import acceptance_facts, acceptance_lines, apply_profile, judge_local_image
from rlimages.checks.inspection import read_remote_facts
from rlimages.checks.profiles import load_profiles, parse_profiles
from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.errors import ConfigError, Interrupted, RegistryError, SelectionError, ToolError
from rlimages.oci.layers import PathKind
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
from rlimages.project.lookup import LocalSubject, find_project, find_subjects
from rlimages.system.process import Stop

TRAINING, HOSTING = parse_profiles().by_name.values()
LABELS = {"org.opencontainers.image.title": "x", "org.opencontainers.image.version": "1.0"}
HERE = Reference(host="here:5000", repository="team/x", version="1.0")


class Shelf:
    """A registry of one repository."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.blobs: dict[str, bytes] = {}
        self.read: list[str] = []

    def manifest(self, _repository: str, version: str) -> Manifest | None:
        return self.manifests.get(version)

    def blob(self, _repository: str, name: str) -> bytes:
        return self.blobs[name]

    def read_blob(self, _repository: str, name: str) -> Iterator[bytes]:
        self.read.append(name)
        content = self.blobs[name]
        yield from (content[at : at + 100] for at in range(0, len(content), 100))

    def keep(self, kind: str, words: dict, *names: str) -> Manifest:
        made = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": kind} | words).encode(), kind, "here")
        self.manifests |= dict.fromkeys((made.digest, *names), made)
        return made

    def put(self, content: bytes, kind: str) -> dict:
        self.blobs[sha256_digest(content)] = content
        return {"mediaType": kind, "digest": sha256_digest(content), "size": len(content)}

    def put_image(
        self, *names: str, layers: list[dict], kind=DOCKER_MANIFEST, config=DOCKER_CONFIG, **told
    ) -> Manifest:
        facts = {"os": "linux", "architecture": "amd64", "config": {"Labels": LABELS}} | told
        return self.keep(kind, {"config": self.put(json.dumps(facts).encode(), config), "layers": layers}, *names)

    def put_index(self, *names: str, parts: list[tuple[Manifest, str, dict]]) -> Manifest:
        words = [
            {"mediaType": part.media_type, "digest": part.digest, "size": 1, "annotations": notes,
             "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True))}
            for part, platform, notes in parts
        ]  # fmt: skip
        return self.keep(OCI_INDEX, {"manifests": words}, *names)


def layer(*names: str, size: int = 1000) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, size
            archive.addfile(entry, io.BytesIO(b"x" * size))
    return gzip.compress(stream.getvalue())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def look(shelf: Shelf, version: str = "1.0", profile=TRAINING, stop: Stop | None = None):
    place = Reference(host=HERE.host, repository=HERE.repository, version=version)
    return read_remote_facts(shelf, place, (profile,), stop=stop or Stop())


def refused(shelf: Shelf, version: str = "1.0", profile=TRAINING) -> set[str]:
    return {finding.rule for finding in apply_profile(look(shelf, version, profile), profile).refused}


def test_an_image_of_a_registry_is_read_from_its_newest_layer_to_its_oldest(shelf) -> None:
    layers = [
        shelf.put(layer("usr/bin/train"), DOCKER_LAYER),
        shelf.put(layer("usr/bin/.wh.train", size=0), DOCKER_LAYER),
    ]
    shelf.put_image("1.0", layers=layers)
    found = look(shelf)
    assert shelf.read == [layers[1]["digest"], layers[0]["digest"]]
    assert found.entries == {}
    assert found.unpacked == 1000
    assert found.read == sum(map(len, shelf.blobs.values())) + len(found.manifest.content)
    assert refused(shelf) == {"programs"}


def test_a_good_image_of_a_registry_is_accepted(shelf) -> None:
    made = shelf.put_image("1.0", layers=[shelf.put(layer("usr/bin/train"), DOCKER_LAYER)])
    assert refused(shelf) == set()
    assert refused(shelf, made.digest) == set()
    assert look(shelf, made.digest).tags == ()


def test_an_index_with_an_attestation_is_refused_and_its_image_is_looked_at(shelf) -> None:
    layers = [shelf.put(layer("usr/bin/train"), DOCKER_LAYER)]
    other = shelf.put_image(layers=[], kind=OCI_MANIFEST, config=OCI_CONFIG, architecture="arm64")
    image = shelf.put_image(layers=layers, kind=OCI_MANIFEST, config=OCI_CONFIG)
    proof = shelf.put_image(layers=[], kind=OCI_MANIFEST, config=OCI_CONFIG, os="unknown", architecture="unknown")
    note = {REFERENCE_TYPE: "attestation-manifest"}
    shelf.put_index(
        "1.0", parts=[(proof, "unknown/unknown", note), (other, "linux/arm64", {}), (image, "linux/amd64", {})]
    )
    assert refused(shelf) == {"index", "attestation", "manifest"}
    assert look(shelf).configuration.architecture == "amd64"


def test_an_index_of_other_platforms_is_refused_for_those_too(shelf) -> None:
    image = shelf.put_image(layers=[], kind=OCI_MANIFEST, config=OCI_CONFIG, architecture="arm64")
    shelf.put_index("1.0", parts=[(image, "linux/arm64", {})])
    assert {"index", "platform"} <= refused(shelf)


def test_layers_that_can_not_be_read_are_not_fetched(shelf) -> None:
    shelf.put_image("1.0", layers=[shelf.put(b"(\xb5/\xfd", f"{OCI_MANIFEST}.tar+zstd")])
    assert refused(shelf) == {"layers"}
    assert shelf.read == []


@pytest.mark.parametrize("content", [b"no archive", b"", layer("a")[:-40]], ids=["other", "nothing", "cut"])
def test_a_layer_that_is_something_else_is_an_error(shelf, content) -> None:
    made = shelf.put(layer("a", "b"), DOCKER_LAYER)
    shelf.put_image("1.0", layers=[made])
    shelf.blobs[made["digest"]] = content
    with pytest.raises(RegistryError, match=f"layer {made['digest']}"):
        look(shelf)


def test_nothing_under_a_reference_is_an_error(shelf) -> None:
    with pytest.raises(RegistryError, match=r"here:5000 holds nothing under team/x:1.0"):
        look(shelf)


def test_reading_can_be_stopped(shelf) -> None:
    shelf.put_image("1.0", layers=[shelf.put(layer("a"), DOCKER_LAYER)])
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted):
        look(shelf, stop=stop)


class Store:
    """An engine's local store."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def inspect(self, reference: str) -> InspectedImage | None:
        if reference not in self.names:
            return None
        image = BuiltImage(id="sha256:x", size=10 * 2**30 + 1)
        return InspectedImage(image=image, labels={}, env=(), entrypoint=(), command=(), user="", workdir="")

    def read_config(self, reference: str) -> ImageConfig | None:
        told = {"os": "linux", "architecture": "amd64", "created": "", "labels": LABELS, "env": ()}
        return ImageConfig(**told, entrypoint=(), user="") if reference in self.names else None

    def read_path_kinds(self, _image: str, wanted) -> dict[str, PathKind]:
        return {path: PathKind.PROGRAM for path in wanted if path in ("/usr/bin/train", "/usr/bin/serve")}


def test_the_gate_judges_a_local_image_by_each_profile() -> None:
    training, hosting = judge_local_image(Store("x:1"), "x:1", ("1",), (TRAINING, HOSTING))
    assert not training.refused
    assert [finding.rule for finding in hosting.refused] == ["unpacked-size"]


def test_the_gate_judges_a_packed_image_by_its_manifest_too(shelf) -> None:
    packed = shelf.put_image(layers=[], kind=OCI_MANIFEST, config=OCI_CONFIG)
    (verdict,) = judge_local_image(Store("x:1"), "x:1", ("1",), (TRAINING,), manifest=packed)
    assert [finding.rule for finding in verdict.refused] == ["manifest"]


def test_the_gate_calls_an_id_by_what_people_know_and_asks_nothing_without_profiles() -> None:
    (verdict,) = judge_local_image(Store("sha256:x"), "sha256:x", ("1",), (TRAINING,), called="vw-9.11.9-cpu-debian")
    assert verdict.specimen.reference == "vw-9.11.9-cpu-debian"
    assert judge_local_image(Store(), "sha256:x", ("1",), ()) == ()


def test_the_gate_wants_an_image() -> None:
    with pytest.raises(ToolError, match="no image y in the local store"):
        judge_local_image(Store("x:1"), "y", ("1",), (TRAINING,))


def test_a_cell_means_its_image_with_all_its_tags(project) -> None:
    cell = next(cell for cell in project.cells if cell.aliases)
    subject = LocalSubject(name=cell.local_name, tags=cell.tags)
    store = Store(cell.local_name)
    assert find_subjects(cell.id, store, project) == (subject,)
    assert find_subjects(cell.local_name, store, project) == (subject,)


@pytest.mark.parametrize(("name", "tags"), [("a/b:1.0", ("1.0",)), ("sha256:x", ()), ("abc", ()), ("host:5/a", ())])
def test_an_image_of_the_store_has_the_tag_of_its_name(name, tags) -> None:
    assert find_subjects(name, Store(name), None)[0].tags == tags


def test_a_word_that_means_nothing_is_told_in_one_sentence(project) -> None:
    with pytest.raises(
        SelectionError, match=r"'vw-9.11.9-cpu-debia' is not an image .* did you mean 'vw-9.11.9-cpu-debian'"
    ):
        find_subjects("vw-9.11.9-cpu-debia", Store(), project)
    with pytest.raises(SelectionError, match="there is no project here"):
        find_subjects("x", Store(), None)
    with pytest.raises(ToolError, match=r"rlimages build --select vw-8\.7\.0-cpu"):
        find_subjects("vw-8.7.0-cpu", Store(), project)


def test_the_projects_own_profiles_are_found_and_a_broken_matrix_is_told(project, tmp_path) -> None:
    assert find_project(None, tmp_path) is None
    assert load_profiles(None) == load_profiles(tmp_path) == parse_profiles()
    (tmp_path / "build_matrix.yaml").write_text((project.root / "build_matrix.yaml").read_text())
    (tmp_path / "acceptance.yaml").write_text(
        "version: 1\nprofiles: {ours: {extends: sagemaker-training, as_of: 2027-01-01}}"
    )
    assert "ours" in load_profiles(find_project(None, tmp_path).root).by_name
    (tmp_path / "build_matrix.yaml").write_text("version: 0")
    with pytest.raises(ConfigError):
        find_project(None, tmp_path)


def test_a_verdict_is_shown_with_reason_and_remedy() -> None:
    (verdict,) = judge_local_image(Store("x:1"), "x:1", ("1",), (HOSTING,))
    lines = list(acceptance_lines(verdict))
    assert lines[0] == "x:1 (local store): refused by sagemaker-hosting as of 2026-11-21"
    at = next(number for number, line in enumerate(lines) if line.startswith("  REFUSED  unpacked-size"))
    assert lines[at + 1].strip().startswith("-> leave out")
    (told,) = acceptance_facts([verdict])
    assert told["accepted"] is False
    assert {rule["rule"]: rule["outcome"] for rule in told["rules"]}["unpacked-size"] == "failed"
