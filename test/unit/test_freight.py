"""What a release would send is what its places lack: each layer once a place, whichever repository has it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlimages import freight
from rlimages.archive import Shelf
from rlimages.distribution import DOCKER_LAYER, Blob
from rlimages.errors import RegistryError
from rlimages.shipment import Place
from rlimages.stack import Stored

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
def shelf(tmp_path) -> Shelf:
    """The first two layers were packed to a tenth."""
    shelf = Shelf(tmp_path)
    for name in (BASE, OWN):
        shelf.keep_layer(name, Blob(media_type=DOCKER_LAYER, digest=f"{name[:-1]}0", size=100))
    return shelf


@pytest.fixture
def images(cell):
    steps = (("ADD base", 1000), ("RUN own", 1000), ("RUN new", 1000))
    one = Stored(name="one", id="sha256:1", layers=(BASE, OWN), history=steps[:2])
    other = Stored(name="two", id="sha256:2", layers=(BASE, NEW), history=(steps[0], steps[2]))
    return [(replace(cell, repository="one"), one), (replace(cell, repository="two"), other)]


def place(*held: tuple[str, str]):
    return SimpleNamespace(place=Place(name="x", host="127.0.0.1:1", prefix="team"), registry=Answers(*held))


@pytest.fixture(autouse=True)
def up(monkeypatch) -> None:
    monkeypatch.setattr(freight, "answers", lambda _host: True)


def test_an_empty_place_lacks_each_layer_once(images, shelf) -> None:
    assert freight.to_send(images, [place()], shelf) == 100 + 100 + 1000


def test_what_any_repository_has_does_not_travel(images, shelf) -> None:
    assert freight.to_send(images, [place(("team/two", f"{BASE[:-1]}0"))], shelf) == 100 + 1000
    assert freight.to_send(images, [place(("team/elsewhere", f"{BASE[:-1]}0"))], shelf) == 1200


def test_each_place_is_asked_for_itself(images, shelf) -> None:
    here = [place(("team/one", f"{BASE[:-1]}0"), ("team/one", f"{OWN[:-1]}0")), place()]
    assert freight.to_send(images[:1], here, shelf) == 0 + 200


def test_a_place_that_does_not_say_gets_all(images, shelf, monkeypatch) -> None:
    assert freight.to_send(images[:1], [place(("broken", ""))], shelf) == 200
    monkeypatch.setattr(freight, "answers", lambda _host: False)
    assert freight.to_send(images[:1], [place(("team/one", f"{BASE[:-1]}0"))], shelf) == 200
