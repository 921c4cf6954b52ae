"""The size of an upload: each layer counts once for each registry in which no repository has it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlimages.errors import RegistryError
from rlimages.oci.history import StoredImage
from rlimages.oci.manifest import DOCKER_LAYER, Blob
from rlimages.oci.packing import PackedCache
from rlimages.release import packing
from rlimages.release.model import TargetRegistry
from rlimages.release.packing import upload_size

BASE, OWN, NEW = (f"sha256:{letter * 64}" for letter in "abc")


class Answers:
    """A registry that has these blobs."""

    def __init__(self, *held: tuple[str, str]) -> None:
        self.held = set(held)

    def has_blob(self, repository: str, name: str) -> bool:
        if ("broken", "") in self.held:
            raise RegistryError("broken")
        return (repository, name) in self.held


@pytest.fixture
def cache(tmp_path) -> PackedCache:
    """The first two layers were packed before, to a tenth of their size."""
    cache = PackedCache(tmp_path)
    for name in (BASE, OWN):
        cache.keep_layer(name, Blob(media_type=DOCKER_LAYER, digest=f"{name[:-1]}0", size=100))
    return cache


@pytest.fixture
def images(cell):
    steps = (("ADD base", 1000), ("RUN own", 1000), ("RUN new", 1000))
    one = StoredImage(name="one", id="sha256:1", layers=(BASE, OWN), history=steps[:2])
    other = StoredImage(name="two", id="sha256:2", layers=(BASE, NEW), history=(steps[0], steps[2]))
    return [(replace(cell, repository="one"), one), (replace(cell, repository="two"), other)]


def registry(*held: tuple[str, str]):
    return SimpleNamespace(registry=TargetRegistry(name="x", host="127.0.0.1:1", prefix="team"), client=Answers(*held))


@pytest.fixture(autouse=True)
def reachable(monkeypatch) -> None:
    monkeypatch.setattr(packing, "is_reachable", lambda _host: True)


def test_an_empty_registry_lacks_each_layer_once(images, cache) -> None:
    assert upload_size(images, [registry()], cache) == 100 + 100 + 1000


def test_a_layer_that_any_repository_has_is_not_counted(images, cache) -> None:
    assert upload_size(images, [registry(("team/two", f"{BASE[:-1]}0"))], cache) == 100 + 1000
    assert upload_size(images, [registry(("team/elsewhere", f"{BASE[:-1]}0"))], cache) == 1200


def test_each_registry_counts_for_itself(images, cache) -> None:
    registries = [registry(("team/one", f"{BASE[:-1]}0"), ("team/one", f"{OWN[:-1]}0")), registry()]
    assert upload_size(images[:1], registries, cache) == 0 + 200


def test_a_registry_that_gives_no_answer_counts_as_empty(images, cache, monkeypatch) -> None:
    assert upload_size(images[:1], [registry(("broken", ""))], cache) == 200
    monkeypatch.setattr(packing, "is_reachable", lambda _host: False)
    assert upload_size(images[:1], [registry(("team/one", f"{BASE[:-1]}0"))], cache) == 200
