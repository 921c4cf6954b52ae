"""Each acceptance rule is tested with images that just pass it and with images that break it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.checks.acceptance import apply_profile, require_accepted
from rlimages.checks.inspection import ImageFacts
from rlimages.checks.pass_record import record_tag
from rlimages.checks.profiles import parse_profiles
from rlimages.checks.rules import RULES, RuleResult
from rlimages.errors import AcceptanceError
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    IN_TOTO,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    ImageConfig,
    IndexEntry,
    Manifest,
    compose_manifest,
    parse_manifest,
)
from rlimages.oci.path_index import PathKind
from rlimages.plan.results import Outcome
from rlimages.release.tags import RUN_TAG_PREFIX

ROOT = Path(__file__).resolve().parents[3]
TRAINING = parse_profiles().find("sagemaker-training")
HOSTING = parse_profiles().find("sagemaker-hosting")
GIB = 2**30
TRAINS = {"/opt/venv/bin/train": PathKind.PROGRAM}
LABELS = {"org.opencontainers.image.title": "x", "org.opencontainers.image.version": "1.0"}
GOOD = ImageConfig(
    os="linux",
    architecture="amd64",
    created="",
    labels=LABELS,
    env=("PATH=/opt/venv/bin:/usr/bin", "LANG=C.UTF-8"),
    entrypoint=("/usr/local/bin/rlimages-entrypoint",),
    user="",
    history=("RUN /bin/sh -c make # buildkit", "RUN |1 processor=cpu /bin/sh -c make # buildkit"),
)
INTERMEDIATE = "/opt/ml/output/intermediate"
MULTI_MODELS = "com.amazonaws.sagemaker.capabilities.multi-models"
CONFIG = Blob(media_type=DOCKER_CONFIG, digest="sha256:config", size=100)
LAYER = Blob(media_type=DOCKER_LAYER, digest="sha256:layer", size=1000)


def docker_manifest(*layers: Blob) -> Manifest:
    return compose_manifest(CONFIG, layers or (LAYER,))


def foreign_manifest(kind: str, config: str = OCI_CONFIG, layer: str = DOCKER_LAYER) -> Manifest:
    """Return a manifest that another program wrote."""
    values = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": config, "digest": "sha256:config", "size": 1},
        "layers": [{"mediaType": layer, "digest": "sha256:layer", "size": 1}],
    }
    return parse_manifest(json.dumps(values).encode(), kind, "here")


def index(kind: str = OCI_INDEX) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode(), kind, "here")


def facts(**changes) -> ImageFacts:
    """Return the facts of a good image with some fields changed; fields of its configuration too. `env` is added."""
    if "env" in changes:
        changes["env"] = (*GOOD.env, *changes["env"])
    config_changes = {name: changes.pop(name) for name in tuple(changes) if hasattr(GOOD, name)}
    values = {
        "reference": "x:1",
        "origin": "local store",
        "id": "sha256:x",
        "manifest": docker_manifest(),
        "config": replace(GOOD, **config_changes),
        "unpacked_size": 2 * GIB,
        "path_kinds": TRAINS | {"/usr/bin/serve": PathKind.PROGRAM},
        "tags": ("ray-1.6.0-tf-gpu-py37",),
    }
    return ImageFacts(**(values | changes))


def result_of(rule: str, image: ImageFacts, profile=TRAINING) -> RuleResult:
    return apply_profile(image, profile).rules[rule]


IMAGE, ATTESTATION = (
    IndexEntry(digest="sha256:a", platform="linux/amd64", is_attestation=False),
    IndexEntry(digest="sha256:b", platform="unknown/unknown", is_attestation=True),
)
UNSUPPORTED = 'SageMaker answers "Unsupported manifest media type"'
NO_OTHER_LAYERS = "a Docker manifest, the only one that SageMaker accepts, has no others"
IN_HISTORY = "and the image's history still shows it"
CAN_READ = "everybody who can pull the image can read it"
REFUSED = [
    ("index", facts(index=index(), index_entries=(IMAGE,)), TRAINING, f"the reference names an index ({OCI_INDEX}) of linux/amd64, not one manifest; {UNSUPPORTED}"),
    ("index", facts(index=index(DOCKER_LIST), index_entries=(IMAGE,)), TRAINING, f"the reference names an index ({DOCKER_LIST}) of linux/amd64, not one manifest; {UNSUPPORTED}"),
    ("index", facts(index=index(), manifest=None, config=None, path_kinds=None), TRAINING, f"the reference names an index ({OCI_INDEX}) of no image, not one manifest; {UNSUPPORTED}"),
    ("attestation", facts(index=index(), index_entries=(IMAGE, ATTESTATION)), TRAINING, "1 of the 2 entries of the index are attestations (provenance or SBOM); SageMaker accepts only a manifest without them"),
    ("attestation", facts(manifest=foreign_manifest(OCI_MANIFEST, layer=IN_TOTO)), TRAINING, "this is an attestation (provenance or SBOM), not an image; SageMaker cannot run it"),
    ("manifest", facts(index=index(), index_entries=(IMAGE,)), TRAINING, f"the manifest is {OCI_INDEX}; accepted: {DOCKER_MANIFEST}; {UNSUPPORTED}"),
    ("manifest", facts(manifest=foreign_manifest(OCI_MANIFEST)), TRAINING, f"the manifest is {OCI_MANIFEST}; accepted: {DOCKER_MANIFEST}; {UNSUPPORTED}"),
    ("manifest", facts(manifest=foreign_manifest(DOCKER_MANIFEST)), TRAINING, f"the configuration is {OCI_CONFIG}; accepted: {DOCKER_CONFIG}; SageMaker runs only images"),
    ("layers", facts(manifest=foreign_manifest(DOCKER_MANIFEST, layer=f"{DOCKER_LAYER[:-4]}zstd")), TRAINING, f"there are layers of {DOCKER_LAYER[:-4]}zstd; accepted: {DOCKER_LAYER}; {NO_OTHER_LAYERS}"),
    ("layers", facts(manifest=docker_manifest(LAYER, replace(LAYER, media_type="a/b.tar+gzip"))), TRAINING, f"there are layers of a/b.tar+gzip; accepted: {DOCKER_LAYER}; {NO_OTHER_LAYERS}"),
    ("platform", facts(architecture="arm64"), TRAINING, "the image is for linux/arm64; accepted: linux/amd64; an instance of another platform cannot run its programs"),
    ("platform", facts(os="windows"), TRAINING, "the image is for windows/amd64; accepted: linux/amd64; an instance of another platform cannot run its programs"),
    ("layer-size", facts(manifest=docker_manifest(replace(LAYER, size=52000 * 2**20 + 1))), TRAINING, "the largest layer has 54525952001 bytes (50.8 GiB), and the limit is 54525952000 bytes (50.8 GiB); Amazon ECR accepts no larger layer"),
    ("unpacked-size", facts(unpacked_size=10 * GIB + 1), HOSTING, 'the unpacked files have 10737418241 bytes (10.0 GiB), and the limit is 10737418240 bytes (10.0 GiB); SageMaker answers "Image size … is greater than supported size"'),
    ("programs", facts(path_kinds={"/usr/bin/serve": PathKind.PROGRAM}), TRAINING, "there is no `train` on PATH; SageMaker starts the container with `docker run IMAGE train`, which fails"),
    ("programs", facts(path_kinds={"/usr/bin/train": PathKind.FILE}), TRAINING, "/usr/bin/train is not an executable file; SageMaker starts the container with `docker run IMAGE train`, which fails"),
    ("programs", facts(path_kinds={"/usr/bin/train": PathKind.FOLDER}), TRAINING, "/usr/bin/train is not an executable file; SageMaker starts the container with `docker run IMAGE train`, which fails"),
    ("programs", facts(path_kinds={"/usr/local/bin/train": PathKind.PROGRAM}), TRAINING, "there is no `train` on PATH; SageMaker starts the container with `docker run IMAGE train`, which fails"),
    ("programs", facts(path_kinds={"/usr/bin/train": PathKind.PROGRAM}), HOSTING, "there is no `serve` on PATH; SageMaker starts the container with `docker run IMAGE serve`, which fails"),
    ("entrypoint", facts(entrypoint=("/bin/sh", "-c", "train")), TRAINING, "the entrypoint is in the shell form, so its program gets neither the argument `train` nor the SIGTERM with which SageMaker stops a container"),
    ("absent-paths", facts(path_kinds=TRAINS | {INTERMEDIATE: PathKind.FOLDER}), TRAINING, f"{INTERMEDIATE} exists: {TRAINING.absent[INTERMEDIATE]}"),
    ("environment", facts(env=("SM_HOSTS=[]",)), TRAINING, f"SM_HOSTS is set: {TRAINING.environment['SM_*']}"),
    ("environment", facts(env=("SAGEMAKER_BASE_DIR=/data",)), TRAINING, "SAGEMAKER_BASE_DIR is set: it moves the folders away from /opt/ml, where SageMaker mounts its files"),
    ("environment", facts(env=("https_proxy=http://proxy:3128",)), TRAINING, f"https_proxy is set: {TRAINING.environment['HTTPS_PROXY']}"),
    ("environment", facts(env=("SAGEMAKER_BIND_TO_PORT=80",)), HOSTING, "SAGEMAKER_BIND_TO_PORT is set: SageMaker sets the port for each endpoint"),
    ("credentials", facts(env=("AWS_SECRET_ACCESS_KEY=wJalr",)), TRAINING, f"ENV AWS_SECRET_ACCESS_KEY holds an access key; {CAN_READ}"),
    ("credentials", facts(history=("ARG DB_PASSWORD=x",)), TRAINING, f"ARG DB_PASSWORD held a password, {IN_HISTORY}; {CAN_READ}"),
    ("credentials", facts(env=("A_TOKEN=x", "B_TOKEN=y")), TRAINING, f"ENV A_TOKEN holds a token; ENV B_TOKEN holds a token; {CAN_READ}"),
    ("tags", facts(tags=("x" * 129,)), TRAINING, "'xxxxxxxxxxxxxxxxxxxx…' has 129 characters; a registry accepts 128"),
    ("tags", facts(tags=("good", "a+b")), TRAINING, "'a+b' is not of the form [A-Za-z0-9_][A-Za-z0-9._-]* that registries accept"),
    ("tags", facts(tags=(".hidden",)), TRAINING, "'.hidden' is not of the form [A-Za-z0-9_][A-Za-z0-9._-]* that registries accept"),
    ("tags", facts(tags=("rlimages-run-1",)), TRAINING, "'rlimages-run-1' is reserved: a release keeps its images under such tags until it ends"),
    ("tags", facts(tags=("sha256-" + "a" * 64 + ".sig",)), TRAINING, f"'sha256-{'a' * 64}.sig' is reserved: cosign and the OCI referrers API keep signatures under such tags"),
    ("labels", facts(labels={}), TRAINING, "org.opencontainers.image.title is missing; org.opencontainers.image.version is missing"),
    ("labels", facts(labels=LABELS | {"org.opencontainers.image.version": ""}), TRAINING, "org.opencontainers.image.version is ''; accepted: .+"),
    ("labels", facts(labels=LABELS | {MULTI_MODELS: "yes"}), HOSTING, f"{MULTI_MODELS} is 'yes'; accepted: true|false"),
]  # fmt: skip


@pytest.mark.parametrize("profile", [TRAINING, HOSTING], ids=lambda profile: profile.name)
def test_a_good_image_passes_every_rule(profile) -> None:
    result = apply_profile(facts(), profile)
    assert not result.broken_rules
    assert list(result.rules) == list(RULES)


@pytest.mark.parametrize(
    ("rule", "image", "profile", "reason"),
    REFUSED,
    ids=lambda value: value if isinstance(value, str) and value in RULES else "",
)
def test_a_broken_rule_has_a_reason_and_a_remedy(rule, image, profile, reason) -> None:
    result = result_of(rule, image, profile)
    assert result.outcome is Outcome.FAILED
    assert result.reason == reason
    assert result.remedy


def test_every_rule_is_broken_by_an_example() -> None:
    without_limit = {"compressed-size"}  # no built-in profile sets it
    assert {rule for rule, *_ in REFUSED} == set(RULES) - without_limit


def test_each_example_breaks_only_its_own_rule() -> None:
    """Except the rules about manifests: an index or an attestation breaks several of them."""
    related = {"index", "attestation", "manifest", "layers", "programs"}
    for rule, image, profile, _ in REFUSED:
        broken = set(apply_profile(image, profile).broken_rules)
        assert broken == {rule} or (broken <= related and rule in broken)


@pytest.mark.parametrize(
    ("rule", "image", "profile"),
    [
        ("unpacked-size", facts(unpacked_size=10 * GIB), HOSTING),
        ("layer-size", facts(manifest=docker_manifest(replace(LAYER, size=52000 * 2**20))), TRAINING),
        ("tags", facts(tags=("x" * 128, "_a.b-C")), TRAINING),
        ("environment", facts(env=("SM_NUM_GPUS=1",)), HOSTING),
        ("environment", facts(env=("SM_HOSTS=", "SAGEMAKER_PROGRAM=train.py", "SMALL=1")), TRAINING),
        ("credentials", facts(env=("TOKENIZERS_PARALLELISM=true", "GPG_KEY=A035C8C1", "API_TOKEN=")), TRAINING),
        ("programs", facts(path_kinds={"/usr/local/lib/rlimages/serve": PathKind.PROGRAM}), HOSTING),
        ("entrypoint", facts(entrypoint=()), TRAINING),
        ("entrypoint", facts(entrypoint=("bash", "-m", "start.sh")), TRAINING),
    ],
)
def test_an_image_at_the_limit_passes(rule, image, profile) -> None:
    assert result_of(rule, image, profile).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("rule", "image"),
    [
        *((rule, facts(manifest=None)) for rule in ("index", "attestation", "manifest", "layers", "layer-size")),
        ("compressed-size", facts(manifest=None)),
        ("unpacked-size", facts()),  # no limit is known
        *((rule, facts(unpacked_size=None, path_kinds=None)) for rule in ("unpacked-size", "programs", "absent-paths")),
        ("tags", facts(tags=())),
    ],
)
def test_an_unknown_fact_does_not_count_as_passed(rule, image) -> None:
    assert result_of(rule, image).outcome is Outcome.NOT_APPLICABLE


def test_an_artifact_that_is_not_an_image_breaks_only_the_rule_about_manifests() -> None:
    chart = foreign_manifest(DOCKER_MANIFEST, config="application/vnd.cncf.helm.config.v1+json")
    artifact = facts(manifest=chart, config=None, path_kinds=None, unpacked_size=None)
    assert set(apply_profile(artifact, TRAINING).broken_rules) == {"manifest"}


def test_a_profile_can_limit_the_compressed_size() -> None:
    small = replace(TRAINING, compressed=1999)
    result = result_of("compressed-size", facts(manifest=docker_manifest(LAYER, LAYER)), small)
    assert result.outcome is Outcome.FAILED
    assert result.reason == (
        "the compressed layers have 2000 bytes (2.0 KiB), and the limit is 1999 bytes (2.0 KiB); "
        "the profile sets this limit"
    )
    assert result_of("compressed-size", facts(), small).outcome is Outcome.PASSED


def test_an_image_without_path_has_the_path_of_docker() -> None:
    bare = facts(config=replace(GOOD, env=()), path_kinds={"/usr/local/sbin/train": PathKind.PROGRAM})
    assert result_of("programs", bare).outcome is Outcome.PASSED


@pytest.mark.parametrize("tag", [f"{RUN_TAG_PREFIX}1-vw", record_tag("sha256:a", "sha256:b")])
def test_the_tags_that_releases_use_are_reserved(tag) -> None:
    assert f"'{tag}' is reserved: " in result_of("tags", facts(tags=(tag,))).reason


@pytest.mark.parametrize("profile", parse_profiles().by_name.values(), ids=lambda profile: profile.name)
def test_the_tags_of_the_matrix_are_accepted(project, profile) -> None:
    for cell in project.cells:
        assert result_of("tags", facts(tags=cell.tags), profile).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "image",
    [
        facts(env=("DB_PASSWORD=hunter2",)),
        facts(env=("URL=https://me:hunter2@host/",)),
        facts(labels=LABELS | {"url": "https://me:hunter2@host/"}),
        facts(history=("RUN |1 API_KEY=hunter2 /bin/sh -c make",)),
        facts(history=("RUN /bin/sh -c curl https://me:hunter2@host/",)),
    ],
)
def test_a_credential_is_described_and_never_shown(image) -> None:
    result = apply_profile(image, TRAINING)
    assert set(result.broken_rules) == {"credentials"}
    assert "hunter2" not in str(result.rules)
    with pytest.raises(AcceptanceError) as refusal:
        require_accepted([result])
    assert "hunter2" not in str(refusal.value)


def test_the_documentation_lists_every_rule() -> None:
    page = (ROOT / "docs/acceptance.md").read_text()
    section = page.partition("## Rules")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == list(RULES)
