from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.engine.buildx import build_argv


@pytest.fixture
def argv(step) -> list[str]:
    full = replace(
        step.request,
        arguments=(("processor", "cpu"), ("region", "us-west-2")),
        contexts=(("buildhost", "/x/buildhost"), ("r.example.org/b:1", "docker-image://127.0.0.1:5000/b:1")),
        labels=(("org.opencontainers.image.revision", "abc"),),
    )
    return build_argv(full, metadata=Path("/tmp/m.json"))


def test_the_command_of_a_build_has_exactly_these_arguments(argv) -> None:
    assert argv == [
        "docker", "buildx", "build",
        "--progress=rawjson", "--provenance=false", "--sbom=false", "--load",
        "--metadata-file=/tmp/m.json",
        "--file=ray/docker/2.9.3/Dockerfile.tf.debian",
        "--tag=sagemaker-rl-ray-container:ray-2.9.3",
        "--build-arg=processor=cpu",
        "--build-arg=region=us-west-2",
        "--build-context=buildhost=/x/buildhost",
        "--build-context=r.example.org/b:1=docker-image://127.0.0.1:5000/b:1",
        "--label=org.opencontainers.image.revision=abc",
        ".",
    ]  # fmt: skip


def test_attestations_are_always_disabled(argv) -> None:
    assert {"--provenance=false", "--sbom=false"} <= set(argv)


def test_registry_caches_are_read_and_written_only_on_request(step) -> None:
    with_caches = replace(step.request, cache_from=("127.0.0.1:5000/r:1",), inline_cache=True)
    argv = build_argv(with_caches, metadata=Path("/tmp/m.json"))
    assert "--cache-from=type=registry,ref=127.0.0.1:5000/r:1" in argv
    assert "--cache-to=type=inline" in argv
    assert not [word for word in build_argv(step.request, metadata=Path("/tmp/m.json")) if "cache" in word]
