"""Every rule against an image that just keeps it and ones that break it."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rlimages.checks.acceptance import apply_profile, require_accepted
from rlimages.checks.inspection import ImageFacts, paths_to_read
from rlimages.checks.pass_record import record_tag
from rlimages.checks.profiles import Profile, parse_profiles
from rlimages.checks.rules import RULES
from rlimages.errors import AcceptanceError
from rlimages.oci.layers import PathKind
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
CONFIG = Blob(media_type=DOCKER_CONFIG, digest="sha256:config", size=100)
LAYER = Blob(media_type=DOCKER_LAYER, digest="sha256:layer", size=1000)


def packed(*layers: Blob) -> Manifest:
    return compose_manifest(CONFIG, layers or (LAYER,))


def written(kind: str, config: str = OCI_CONFIG, layer: str = DOCKER_LAYER) -> Manifest:
    """A manifest as others write it."""
    words = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": config, "digest": "sha256:config", "size": 1},
        "layers": [{"mediaType": layer, "digest": "sha256:layer", "size": 1}],
    }
    return parse_manifest(json.dumps(words).encode(), kind, "here")


def index(kind: str = OCI_INDEX) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}).encode(), kind, "here")


def specimen(**changes) -> ImageFacts:
    if "env" in changes:
        changes["env"] = (*GOOD.env, *changes["env"])
    own = {name: changes.pop(name) for name in tuple(changes) if hasattr(GOOD, name)}
    facts = {
        "reference": "x:1",
        "origin": "local store",
        "id": "sha256:x",
        "manifest": packed(),
        "configuration": replace(GOOD, **own),
        "unpacked": 2 * GIB,
        "entries": TRAINS | {"/usr/bin/serve": PathKind.PROGRAM},
        "tags": ("ray-1.6.0-tf-gpu-py37",),
    }
    return ImageFacts(**(facts | changes))


def said(found: ImageFacts, rule: str, profile=TRAINING):
    (finding,) = (finding for finding in apply_profile(found, profile).findings if finding.rule == rule)
    return finding


IMAGE, ATTESTATION = (
    IndexEntry(digest="sha256:a", platform="linux/amd64", is_attestation=False),
    IndexEntry(digest="sha256:b", platform="unknown/unknown", is_attestation=True),
)
REFUSED = [
    ("index", specimen(index=index(), parts=(IMAGE,)), TRAINING, "an index .* of linux/amd64"),
    ("index", specimen(index=index(DOCKER_LIST), parts=(IMAGE,)), TRAINING, "manifest.list"),
    ("index", specimen(index=index(), manifest=None, configuration=None, entries=None), TRAINING, "of nothing"),
    ("attestation", specimen(index=index(), parts=(IMAGE, ATTESTATION)), TRAINING, "1 of 2 parts"),
    ("attestation", specimen(manifest=written(OCI_MANIFEST, layer=IN_TOTO)), TRAINING, "this is an attestation"),
    ("manifest", specimen(index=index(), parts=(IMAGE,)), TRAINING, "the manifest is .*oci.image.index"),
    ("manifest", specimen(manifest=written(OCI_MANIFEST)), TRAINING, "the manifest is .*oci.image.manifest"),
    ("manifest", specimen(manifest=written(DOCKER_MANIFEST)), TRAINING, "its configuration is .*oci.image.config"),
    ("layers", specimen(manifest=written(DOCKER_MANIFEST, layer=f"{DOCKER_LAYER[:-4]}zstd")), TRAINING, "tar.zstd"),
    ("layers", specimen(manifest=packed(LAYER, replace(LAYER, media_type="a/b.tar+gzip"))), TRAINING, "layers of a/b"),
    ("platform", specimen(architecture="arm64"), TRAINING, "linux/arm64, taken is linux/amd64"),
    ("platform", specimen(os="windows"), TRAINING, "windows/amd64"),
    ("layer-size", specimen(manifest=packed(replace(LAYER, size=52000 * 2**20 + 1))), TRAINING, "54525952001 bytes"),
    ("unpacked-size", specimen(unpacked=10 * GIB + 1), HOSTING, r"10737418241 bytes \(10.0 GiB\), 1 more than"),
    ("programs", specimen(entries={"/usr/bin/serve": PathKind.PROGRAM}), TRAINING, "no `train` is on PATH"),
    ("programs", specimen(entries={"/usr/bin/train": PathKind.FILE}), TRAINING, "/usr/bin/train is no program"),
    ("programs", specimen(entries={"/usr/bin/train": PathKind.FOLDER}), TRAINING, "/usr/bin/train is no program"),
    ("programs", specimen(entries={"/usr/local/bin/train": PathKind.PROGRAM}), TRAINING, "no `train` is on PATH"),
    ("programs", specimen(entries={"/usr/bin/train": PathKind.PROGRAM}), HOSTING, "no `serve` is on PATH"),
    ("entrypoint", specimen(entrypoint=("/bin/sh", "-c", "train")), TRAINING, "neither train nor SIGTERM"),
    ("absent-paths", specimen(entries=TRAINS | {"/opt/ml/output/intermediate": PathKind.FOLDER}), TRAINING, "uploads no intermediate"),
    ("environment", specimen(env=("SM_HOSTS=[]",)), TRAINING, "SM_HOSTS is set: the training toolkit"),
    ("environment", specimen(env=("SAGEMAKER_BASE_DIR=/data",)), TRAINING, "away from /opt/ml"),
    ("environment", specimen(env=("https_proxy=http://proxy:3128",)), TRAINING, "https_proxy is set"),
    ("environment", specimen(env=("SAGEMAKER_BIND_TO_PORT=80",)), HOSTING, "sets the port for each endpoint"),
    ("credentials", specimen(env=("AWS_SECRET_ACCESS_KEY=wJalr",)), TRAINING, "ENV AWS_SECRET_ACCESS_KEY holds"),
    ("credentials", specimen(env=("github_token=x",)), TRAINING, "ENV github_token holds a token"),
    ("credentials", specimen(env=("KEY=AKIA" + "A" * 16,)), TRAINING, "ENV KEY holds an AWS access key"),
    ("credentials", specimen(env=("PIP_INDEX_URL=https://me:pw@host/simple",)), TRAINING, "a password in a URL"),
    ("credentials", specimen(labels=LABELS | {"note": "-----BEGIN RSA PRIVATE KEY-----"}), TRAINING, "LABEL note holds"),
    ("credentials", specimen(history=("RUN |2 A=1 NPM_TOKEN=x /bin/sh -c make # buildkit",)), TRAINING, "ARG NPM_TOKEN held a token"),
    ("credentials", specimen(history=("ARG DB_PASSWORD=x",)), TRAINING, "ARG DB_PASSWORD held a password"),
    ("credentials", specimen(history=("", "RUN /bin/sh -c git clone https://me:pw@host/x # buildkit")), TRAINING, "step 2"),
    ("credentials", specimen(history=("RUN |1 processor=cpu /bin/sh -c curl https://me:pw@host/",)), TRAINING, "step 1"),
    ("credentials", specimen(history=("|1 NPM_TOKEN=x /bin/sh -c make",)), TRAINING, "ARG NPM_TOKEN held a token"),
    ("credentials", specimen(history=("/bin/sh -c #(nop)  ENV NPM_TOKEN=x", "ENV NPM_TOKEN=")), TRAINING, "ENV NPM_TOKEN held"),
    ("tags", specimen(tags=("x" * 129,)), TRAINING, "129 characters, taken are 128"),
    ("tags", specimen(tags=("good", "a+b")), TRAINING, re.escape("'a+b' is not of the form")),
    ("tags", specimen(tags=(".hidden",)), TRAINING, "is not of the form"),
    ("tags", specimen(tags=("rlimages-run-1",)), TRAINING, "is taken"),
    ("tags", specimen(tags=("sha256-" + "a" * 64 + ".sig",)), TRAINING, "cosign"),
    ("labels", specimen(labels={}), TRAINING, "image.title is missing; org.opencontainers.image.version is missing"),
    ("labels", specimen(labels=LABELS | {"org.opencontainers.image.version": ""}), TRAINING, "version is '', taken is"),
    ("labels", specimen(labels=LABELS | {"com.amazonaws.sagemaker.capabilities.multi-models": "yes"}), HOSTING, "'yes'"),
]  # fmt: skip


@pytest.mark.parametrize("profile", [TRAINING, HOSTING], ids=lambda profile: profile.name)
def test_a_good_image_is_accepted_by_every_rule(profile) -> None:
    verdict = apply_profile(specimen(), profile)
    assert not verdict.refused
    assert [finding.rule for finding in verdict.findings] == list(RULES)


@pytest.mark.parametrize(
    ("rule", "found", "profile", "reason"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_breaks_a_rule_is_refused_with_reason_and_remedy(rule, found, profile, reason) -> None:
    finding = said(found, rule, profile)
    assert finding.outcome is Outcome.FAILED
    assert re.search(reason, finding.reason)
    assert finding.remedy


def test_every_rule_is_broken_by_an_example() -> None:
    limits = {"compressed-size"}  # no shipped profile has that limit
    assert {rule for rule, *_ in REFUSED} == set(RULES) - limits


def test_each_example_breaks_only_what_it_is_meant_to() -> None:
    """But the manifest, which an index or an attestation can't have either."""
    together = {"index", "attestation", "manifest", "layers", "programs"}
    for rule, found, profile, _ in REFUSED:
        broken = {finding.rule for finding in apply_profile(found, profile).refused}
        assert broken == {rule} or (broken <= together and rule in broken)


@pytest.mark.parametrize(
    ("rule", "found", "profile"),
    [
        ("unpacked-size", specimen(unpacked=10 * GIB), HOSTING),
        ("layer-size", specimen(manifest=packed(replace(LAYER, size=52000 * 2**20))), TRAINING),
        ("tags", specimen(tags=("x" * 128, "_a.b-C")), TRAINING),
        ("environment", specimen(env=("SM_NUM_GPUS=1",)), HOSTING),
        ("environment", specimen(env=("SM_HOSTS=", "SAGEMAKER_PROGRAM=train.py", "SMALL=1")), TRAINING),
        ("credentials", specimen(env=("TOKENIZERS_PARALLELISM=true", "GPG_KEY=A035C8C1", "API_TOKEN=")), TRAINING),
        ("credentials", specimen(env=("INDEX=https://host:8443/simple?a=b@c",)), TRAINING),
        ("programs", specimen(entries={"/usr/local/lib/rlimages/serve": PathKind.PROGRAM}), HOSTING),
        ("entrypoint", specimen(entrypoint=()), TRAINING),
        ("entrypoint", specimen(entrypoint=("bash", "-m", "start.sh")), TRAINING),
    ],
)
def test_what_just_keeps_a_rule_passes(rule, found, profile) -> None:
    assert said(found, rule, profile).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        *((rule, specimen(manifest=None)) for rule in ("index", "attestation", "manifest", "layers", "layer-size")),
        ("compressed-size", specimen(manifest=None)),
        ("unpacked-size", specimen()),  # no limit is known
        *((rule, specimen(unpacked=None, entries=None)) for rule in ("unpacked-size", "programs", "absent-paths")),
        ("tags", specimen(tags=())),
    ],
)
def test_what_is_not_known_is_not_counted_as_passed(rule, found) -> None:
    assert said(found, rule).outcome is Outcome.NOT_APPLICABLE


def test_no_rule_can_be_kept_by_what_is_no_image_at_all() -> None:
    artifact = specimen(manifest=written(DOCKER_MANIFEST, config="application/vnd.cncf.helm.config.v1+json"), configuration=None, entries=None, unpacked=None)  # fmt: skip
    assert {finding.rule for finding in apply_profile(artifact, TRAINING).refused} == {"manifest"}


def test_a_limit_of_the_compressed_size_is_kept_too() -> None:
    small = replace(TRAINING, compressed=1999)
    assert said(specimen(manifest=packed(LAYER, LAYER)), "compressed-size", small).outcome is Outcome.FAILED
    assert said(specimen(), "compressed-size", small).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "found",
    [
        specimen(env=("DB_PASSWORD=hunter2",)),
        specimen(env=("URL=https://me:hunter2@host/",)),
        specimen(labels=LABELS | {"url": "https://me:hunter2@host/"}),
        specimen(history=("RUN |1 API_KEY=hunter2 /bin/sh -c make",)),
        specimen(history=("RUN /bin/sh -c curl https://me:hunter2@host/",)),
    ],
)
def test_a_credential_is_named_and_never_shown(found) -> None:
    verdict = apply_profile(found, TRAINING)
    assert verdict.refused
    assert "hunter2" not in str(verdict.findings)
    with pytest.raises(AcceptanceError) as refusal:
        require_accepted([verdict])
    assert "hunter2" not in str(refusal.value)


def test_a_credential_is_told_once() -> None:
    (reason,) = (said(specimen(env=("DB_PASSWORD=x",), history=("ENV DB_PASSWORD=x",)), "credentials").reason,)
    assert reason == "ENV DB_PASSWORD holds a password"


def test_all_refusals_are_told_together_with_rule_reason_and_remedy() -> None:
    with pytest.raises(AcceptanceError) as refusal:
        require_accepted(
            [
                apply_profile(specimen(architecture="arm64", labels={}), TRAINING),
                apply_profile(specimen(unpacked=11 * GIB), HOSTING),
            ]
        )
    lines = str(refusal.value).splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["x:1", "sagemaker-training refuses it", "platform"],
        ["x:1", "sagemaker-training refuses it", "labels"],
        ["x:1", "sagemaker-hosting refuses it", "unpacked-size"],
    ]
    assert "build it with `--platform linux/amd64`" in lines[0]


def test_what_is_taken_raises_nothing() -> None:
    require_accepted([apply_profile(specimen(), TRAINING), apply_profile(specimen(), HOSTING)])


def test_an_image_without_a_path_has_that_of_the_engine() -> None:
    bare = specimen(configuration=replace(GOOD, env=()), entries={"/usr/local/sbin/train": PathKind.PROGRAM})
    assert said(bare, "programs").outcome is Outcome.PASSED


def test_programs_are_looked_for_where_the_image_has_its_path() -> None:
    assert paths_to_read(GOOD, (TRAINING, HOSTING)) == (
        "/opt/ml/output/intermediate",
        "/opt/venv/bin/train",
        "/usr/bin/train",
        "/usr/local/lib/rlimages/serve",
        "/opt/venv/bin/serve",
        "/usr/bin/serve",
    )


@pytest.mark.parametrize("tag", [f"{RUN_TAG_PREFIX}1-vw", record_tag("sha256:a", "sha256:b")])
def test_the_tags_that_releases_use_themselves_are_reserved(tag) -> None:
    assert "is taken" in said(specimen(tags=(tag,)), "tags").reason


def test_the_documentation_lists_every_rule() -> None:
    page = (ROOT / "docs/acceptance.md").read_text()
    rules, keys = (page.partition(f"## {title}")[2].partition("\n## ")[0] for title in ("Rules", "A project's own"))
    assert re.findall(r"^\| `([a-z-]+)` \|", rules, re.MULTILINE) == list(RULES)
    told = re.findall(r"`([a-z_]+)`", " ".join(re.findall(r"^\| (`.*?) \|", keys, re.MULTILINE)))
    assert {"name", "as_of", *told} == {field.name for field in fields(Profile)}


def test_the_example_of_the_documentation_works() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/acceptance.md").read_text(), re.DOTALL)
    own = parse_profiles(example)
    assert own.find("sagemaker-graviton").platforms == ("linux/arm64",)
    assert own.find("sagemaker-graviton").unpacked == own.find("sagemaker-hosting").unpacked == 30 * GIB


@pytest.mark.parametrize("profile", parse_profiles().by_name.values(), ids=lambda profile: profile.name)
def test_the_tags_of_the_matrix_keep_the_rule(project, profile) -> None:
    for cell in project.cells:
        assert said(specimen(tags=cell.tags), "tags", profile).outcome is Outcome.PASSED
