"""`rlimages accept` with real images: cells of the local store, and small images of every format in a registry."""

import gzip
import json
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from faults import Proxy

from rlimages.checks.acceptance import check_local_image
from rlimages.checks.profiles import parse_profiles
from rlimages.cli.main import main
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    IN_TOTO,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    REFERENCE_TYPE,
    Blob,
    Manifest,
    parse_manifest,
    sha256_digest,
)
from rlimages.oci.packing import PackedCache, PackedImage, pack_image
from rlimages.project.project import load_project
from rlimages.registry.client import RegistryClient

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "rlimages-acceptance"
DOCKERFILE = """FROM scratch
COPY --chmod=755 train /usr/local/bin/train
LABEL org.opencontainers.image.title=acceptance org.opencontainers.image.version=1.0
"""


RUN = "RUN " + " ".join(
    f"--mount=from=debian:bookworm-slim,source={folder},target={folder}" for folder in ("/bin", "/lib", "/lib64")
)
"""The start of a RUN instruction that uses the programs of another image, because this image has none."""


def accept(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--matrix", str(ROOT / "build_matrix.yaml"), "accept", *arguments])


def broken_rules(*arguments: str) -> set[str]:
    """Return the rules that the command reports as broken."""
    result = accept(*arguments, "--json")
    (values,) = json.loads(result.stdout)
    failed = {rule["rule"] for rule in values["rules"] if rule["outcome"] == "failed"}
    assert (result.exit_code, values["accepted"]) == ((8, False) if failed else (0, True))
    return failed


@pytest.fixture
def make(client, tmp_path) -> Iterator[Callable[..., str]]:
    """Return a function that builds a small image from a Dockerfile and returns its name in the local store."""
    names = []

    def make(*lines: str, dockerfile: str = DOCKERFILE) -> str:
        (tmp_path / "train").write_text("#!/bin/sh\n")
        (tmp_path / "Dockerfile").write_text(dockerfile + "\n".join(lines))
        names.append(f"{REPOSITORY}:{uuid.uuid4().hex[:12]}")
        argv = ["docker", "buildx", "build", "-q", "--provenance=false", "--load", f"--tag={names[-1]}"]
        subprocess.run([*argv, "--build-arg=API_TOKEN=hunter2", str(tmp_path)], check=True, capture_output=True)
        return names[-1]

    yield make
    for name in names:
        client.images.remove(name, force=True)


class ImagePusher:
    """Pushes one image to a registry in the formats that builders use."""

    def __init__(self, packed: PackedImage, registry: RegistryClient) -> None:
        self._packed = packed
        self._registry = registry
        for blob in packed.manifest.blobs:
            registry.upload_blob(REPOSITORY, blob, lambda blob=blob: packed.chunks(blob))

    def blob(self, content: bytes, kind: str) -> dict:
        blob = Blob(media_type=kind, digest=sha256_digest(content), size=len(content))
        self._registry.upload_blob(REPOSITORY, blob, lambda: iter([content]))
        return {"mediaType": kind, "digest": blob.digest, "size": blob.size}

    def put(self, values: dict, kind: str, tag: str = "") -> dict:
        """Push a manifest with the fields `values` and media type `kind`, by `tag` or digest. Return its descriptor."""
        content = json.dumps({"schemaVersion": 2, "mediaType": kind} | values).encode()
        manifest = parse_manifest(content, kind, "here")
        self._registry.put_manifest(REPOSITORY, tag or manifest.digest, manifest)
        return {"mediaType": kind, "digest": manifest.digest, "size": len(content)}

    def tag(self) -> str:
        return f"acceptance-{uuid.uuid4().hex[:12]}"

    def image(self, kind: str = DOCKER_MANIFEST, tag: str = "", **changes: str) -> dict:
        """Push the image as one manifest, with changes in its configuration, and return its descriptor."""
        config = json.loads(self._packed.config) | changes
        oci = kind == OCI_MANIFEST
        config_blob = self.blob(json.dumps(config).encode(), OCI_CONFIG if oci else DOCKER_CONFIG)
        layers = [
            {"mediaType": f"{OCI_MANIFEST.partition('manifest')[0]}layer.v1.tar+gzip" if oci else blob.media_type, "digest": blob.digest, "size": blob.size}
            for blob in self._packed.manifest.layers
        ]  # fmt: skip
        return self.put({"config": config_blob, "layers": layers}, kind, tag)

    def reference(self, tag: str) -> str:
        return f"{self._registry.host}/{REPOSITORY}:{tag}"


@pytest.fixture
def pusher(client, make, upstream, tmp_path) -> Iterator[ImagePusher]:
    image = client.images.get(make())
    packed = pack_image(image.id, image.save, tmp_path / "layers", PackedCache(tmp_path / "packed"))
    with RegistryClient(upstream) as registry:
        yield ImagePusher(packed, registry)


def with_attestation(pusher: ImagePusher, tmp_path: Path) -> str:
    """Push what `docker buildx build` pushes by default, an index of an image and its provenance; return the reference.

    An engine with a containerd store builds it. For other engines the same index is composed here.
    """
    tag = pusher.tag()
    name = pusher.reference(tag)
    argv = ["docker", "buildx", "build", "--provenance=true", f"--output=type=registry,name={name}", str(tmp_path)]
    if subprocess.run(argv, check=False, capture_output=True).returncode == 0:
        return name
    platform = {"architecture": "amd64", "os": "linux"}
    image = pusher.image(OCI_MANIFEST) | {"platform": platform}
    statement = pusher.blob(b'{"predicateType": "https://slsa.dev/provenance/v0.2"}', IN_TOTO)
    unknown = {"architecture": "unknown", "os": "unknown"}
    manifest = {"config": pusher.blob(json.dumps(unknown).encode(), OCI_CONFIG), "layers": [statement]}
    annotations = {"vnd.docker.reference.digest": image["digest"], REFERENCE_TYPE: "attestation-manifest"}
    attestation = pusher.put(manifest, OCI_MANIFEST) | {"platform": unknown, "annotations": annotations}
    pusher.put({"manifests": [image, attestation]}, OCI_INDEX, tag)
    return name


def test_all_debian_cells_of_the_local_store_are_accepted_for_training(client, record_property) -> None:
    cells = [cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells if cell.line == "debian"]
    local_names = {tag for image in client.images.list() for tag in image.tags}
    local_cells = [cell.id for cell in cells if cell.local_name in local_names]
    record_property("cells", len(local_cells))
    if not local_cells:
        pytest.fail(
            "there is no image of a Debian cell in the local store; run: rlimages build --select '*-cpu-debian'",
            pytrace=False,
        )
    result = accept(*local_cells)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.count("accepted by sagemaker-training") == len(local_cells)


def test_a_docker_image_in_a_registry_is_accepted(pusher) -> None:
    tag = pusher.tag()
    pusher.image(tag=tag)
    assert broken_rules(pusher.reference(tag)) == set()


def test_an_index_with_an_attestation_is_refused(pusher, tmp_path) -> None:
    assert {"index", "attestation", "manifest"} <= broken_rules(with_attestation(pusher, tmp_path))


def test_an_attestation_by_itself_is_refused(pusher, tmp_path) -> None:
    name = with_attestation(pusher, tmp_path)
    with RegistryClient(name.partition("/")[0]) as registry:
        parts = json.loads(registry.read_manifest(REPOSITORY, name.rpartition(":")[2]).content)["manifests"]
    attestation = next(part["digest"] for part in parts if part["platform"]["os"] == "unknown")
    assert {"attestation", "platform"} <= broken_rules(f"{name.rpartition(':')[0]}@{attestation}")


def test_an_index_of_one_image_is_refused(pusher) -> None:
    tag = pusher.tag()
    image = pusher.image(OCI_MANIFEST) | {"platform": {"architecture": "amd64", "os": "linux"}}
    pusher.put({"manifests": [image]}, OCI_INDEX, tag)
    assert broken_rules(pusher.reference(tag)) == {"index", "manifest", "layers"}


def test_an_oci_manifest_is_refused(pusher) -> None:
    tag = pusher.tag()
    pusher.image(OCI_MANIFEST, tag)
    assert broken_rules(pusher.reference(tag)) == {"manifest", "layers"}


def test_another_architecture_is_refused(pusher) -> None:
    tag = pusher.tag()
    pusher.image(tag=tag, architecture="arm64")
    assert broken_rules(pusher.reference(tag)) == {"platform"}


def layer_of(size: int) -> bytes:
    """Return a compressed layer with one program of `size` zero bytes. It is compressed in parts to save memory."""
    part_size = 1 << 24
    entry = tarfile.TarInfo("usr/local/bin/serve")
    entry.size, entry.mode = size, 0o755
    last_part = bytes(size % part_size + -size % 512 + 1024)
    return gzip.compress(entry.tobuf(), mtime=0) + gzip.compress(bytes(part_size), mtime=0) * (size // part_size) + gzip.compress(last_part, mtime=0)  # fmt: skip


@pytest.mark.parametrize(("extra", "rules"), [(0, set()), (1, {"unpacked-size"})])
def test_ten_gibibytes_are_accepted_for_hosting_and_one_byte_more_is_not(pusher, extra, rules) -> None:
    tag = pusher.tag()
    layer = pusher.blob(layer_of(10 * 2**30 + extra), DOCKER_LAYER)
    labels = {"org.opencontainers.image.title": "large", "org.opencontainers.image.version": "1.0"}
    config = {"os": "linux", "architecture": "amd64", "config": {"Labels": labels}}
    manifest = {"config": pusher.blob(json.dumps(config).encode(), DOCKER_CONFIG), "layers": [layer]}
    pusher.put(manifest, DOCKER_MANIFEST, tag)
    assert broken_rules(pusher.reference(tag), "--profile=sagemaker-hosting") == rules


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("ENV AWS_SECRET_ACCESS_KEY=hunter2", "credentials"),
        (f"ARG API_TOKEN\n{RUN} true", "credentials"),
        ("ENV SM_MODEL_DIR=/model", "environment"),
        ('ENTRYPOINT exec "$0"', "entrypoint"),
        ("LABEL org.opencontainers.image.version=", "labels"),
        ("WORKDIR /opt/ml/output/intermediate", "absent-paths"),
    ],
)
def test_a_local_image_is_refused_for_an_instruction_of_its_dockerfile(make, line, rule) -> None:
    name = make(line)
    assert broken_rules(name) == {rule}
    assert "hunter2" not in accept(name).output


def test_a_local_image_without_train_is_refused(make) -> None:
    assert broken_rules(make(dockerfile=DOCKERFILE.replace("/bin/train", "/bin/other"))) == {"programs"}
    assert broken_rules(make(dockerfile=DOCKERFILE.replace("755", "644"))) == {"programs"}


def test_links_to_train_are_followed(make) -> None:
    dockerfile = DOCKERFILE.replace("/usr/local/bin", "/opt/own")
    assert broken_rules(make(f"{RUN} ln -s /opt/own /sbin", dockerfile=dockerfile)) == set()
    assert broken_rules(make(f"{RUN} ln -s /nowhere /sbin", dockerfile=dockerfile)) == {"programs"}


def test_an_image_has_the_same_results_in_the_local_store_and_in_a_registry(pusher, make, engine, client) -> None:
    tag = pusher.tag()
    pusher.image(tag=tag)
    remote, local = (json.loads(accept(name, "--json").stdout)[0] for name in (pusher.reference(tag), make()))
    reasons = [
        {rule["rule"]: rule["reason"] for rule in result["rules"] if rule["outcome"] == "passed"}
        for result in (remote, local)
    ]
    shared_rules = set(reasons[0]) & set(reasons[1]) - {"tags"}
    assert {"platform", "programs", "entrypoint", "environment", "credentials", "labels"} <= shared_rules
    assert {rule: reasons[0][rule] for rule in shared_rules} == {rule: reasons[1][rule] for rule in shared_rules}


def test_a_local_image_is_checked_by_its_packed_manifest(engine, make) -> None:
    name = make()
    training = parse_profiles().find("sagemaker-training")
    (result,) = check_local_image(engine, name, ("1.0",), (replace(training, unpacked=1),))
    assert list(result.broken_rules) == ["unpacked-size"]
    invalid = Manifest(content=b"{}", media_type=OCI_MANIFEST, config=None)
    (result,) = check_local_image(engine, name, ("1.0",), (training,), manifest=invalid)
    assert list(result.broken_rules) == ["manifest"]


def test_reading_paths_of_an_image_leaves_no_container(engine, make, containers) -> None:
    names_during_read = []

    def paths():
        """Yield a path, and list the containers while the engine still reads."""
        yield "/usr/local/bin/train"
        names_during_read.extend(containers())

    assert engine.read_path_kinds(make(), paths()) == {"/usr/local/bin/train": "program"}
    assert len(names_during_read) == 1
    assert containers() == []


def test_an_interrupted_read_leaves_no_container_either(engine, make, containers) -> None:
    def paths():
        yield "/usr/local/bin/train"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.read_path_kinds(make(), paths())
    assert containers() == []


def test_missing_images_and_profiles_have_their_own_exit_codes(upstream) -> None:
    assert accept(f"{upstream}/{REPOSITORY}:never-pushed").exit_code == 7
    assert accept("No Image").exit_code == 5
    assert accept("debian:bookworm-slim", "--profile", "sagemaker-trainin").exit_code == 5


@pytest.mark.parametrize("fault", ["reset", "truncated", "503"])
def test_a_registry_that_fails_is_reported_in_one_sentence(pusher, fault) -> None:
    tag = pusher.tag()
    pusher.image(tag=tag)
    proxy = Proxy(pusher.reference(tag).partition("/")[0])
    try:
        proxy.start_plan(
            lambda number: fault if number > 2 else ""
        )  # the first two requests, manifest and configuration, pass
        result = accept(f"{proxy.host}/{REPOSITORY}:{tag}")
    finally:
        proxy.close()
    assert result.exit_code == 7
    assert "accepted" not in result.stdout
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        f"rlimages: {proxy.host} answered 503"
        if fault == "503"
        else f"rlimages: cannot reach the registry {proxy.host}"
    )
