"""What a release would send is what its places lack: each layer once a place, whichever repository has it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlimages.errors import RegistryError
from rlimages.oci.archive import PackedCache
from rlimages.oci.layers import StoredImage
from rlimages.oci.manifest import DOCKER_LAYER, Blob
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
def shelf(tmp_path) -> PackedCache:
    """The first two layers were packed to a tenth."""
    shelf = PackedCache(tmp_path)
    for name in (BASE, OWN):
        shelf.keep_layer(name, Blob(media_type=DOCKER_LAYER, digest=f"{name[:-1]}0", size=100))
    return shelf


@pytest.fixture
def images(cell):
    steps = (("ADD base", 1000), ("RUN own", 1000), ("RUN new", 1000))
    one = StoredImage(name="one", id="sha256:1", layers=(BASE, OWN), history=steps[:2])
    other = StoredImage(name="two", id="sha256:2", layers=(BASE, NEW), history=(steps[0], steps[2]))
    return [(replace(cell, repository="one"), one), (replace(cell, repository="two"), other)]


def place(*held: tuple[str, str]):
    return SimpleNamespace(place=TargetRegistry(name="x", host="127.0.0.1:1", prefix="team"), registry=Answers(*held))


@pytest.fixture(autouse=True)
def up(monkeypatch) -> None:
    monkeypatch.setattr(packing, "is_reachable", lambda _host: True)


def test_an_empty_place_lacks_each_layer_once(images, shelf) -> None:
    assert upload_size(images, [place()], shelf) == 100 + 100 + 1000


def test_what_any_repository_has_does_not_travel(images, shelf) -> None:
    assert upload_size(images, [place(("team/two", f"{BASE[:-1]}0"))], shelf) == 100 + 1000
    assert upload_size(images, [place(("team/elsewhere", f"{BASE[:-1]}0"))], shelf) == 1200


def test_each_place_is_asked_for_itself(images, shelf) -> None:
    here = [place(("team/one", f"{BASE[:-1]}0"), ("team/one", f"{OWN[:-1]}0")), place()]
    assert upload_size(images[:1], here, shelf) == 0 + 200


def test_a_place_that_does_not_say_gets_all(images, shelf, monkeypatch) -> None:
    assert upload_size(images[:1], [place(("broken", ""))], shelf) == 200
    monkeypatch.setattr(packing, "is_reachable", lambda _host: False)
    assert upload_size(images[:1], [place(("team/one", f"{BASE[:-1]}0"))], shelf) == 200
