import socket
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.engine.store import data_folder, prune_build_cache, remove_unnamed_images


class Client:
    """An engine's client that has some images and some build cache."""

    def __init__(self, *images, cache=(), used=(), **info) -> None:
        self.removed, self.pruned = [], []
        self._images, self._cache, self._used, self._info = images, cache, used, info
        self.api = SimpleNamespace(
            images=self._list, remove_image=self._remove, df=lambda: {"BuildCache": cache}, prune_builds=self._prune
        )

    def info(self):
        return self._info

    def _list(self, filters):
        assert filters == {"dangling": True, "label": "rlimages.cell"}
        return [{"Id": image, "RepoTags": None, "Labels": {"rlimages.cell": "c"}} for image in self._images]

    def _remove(self, image):
        if image in self._used:
            raise APIError("conflict: image is being used by running container")
        self.removed.append(image)

    def _prune(self, *, keep_storage):
        self.pruned.append(keep_storage)
        return {"SpaceReclaimed": 2 * 10**9}


def test_of_the_nameless_images_only_those_made_here_are_removed() -> None:
    client = Client("sha256:ours", "sha256:of-another-checkout")
    said = list(remove_unnamed_images(client, {"sha256:ours", "sha256:long-gone"}))
    assert client.removed == ["sha256:ours"]
    assert said == ["removed an image of c that lost its name (ours)"]


def test_an_image_that_a_container_stands_on_stays_for_the_next_run() -> None:
    client = Client("sha256:1", "sha256:2", used=("sha256:1",))
    assert len(list(remove_unnamed_images(client, {"sha256:1", "sha256:2"}))) == 1
    assert client.removed == ["sha256:2"]


OURS = {"DOCKER_HOST": "unix:///x/home/docker.sock", "RLIMAGES_HOME": "/x/home"}


@pytest.mark.parametrize(
    "environ",
    [{}, {"DOCKER_HOST": "unix:///var/run/docker.sock"}, {**OURS, "RLIMAGES_HOME": "/y"}, {"DOCKER_HOST": "tcp://x:1"}],
)
def test_the_build_cache_of_an_engine_that_is_not_ours_is_left_alone(environ) -> None:
    client = Client(cache=[{"Size": 9}])
    assert list(prune_build_cache(client, 1, environ)) == []
    assert not client.pruned


@pytest.mark.parametrize("environ", [OURS, {"DOCKER_HOST": "unix:///var/lib/rlimages/docker.sock"}])
def test_of_our_own_build_cache_goes_as_much_as_is_wanted(environ) -> None:
    client = Client(cache=[{"Size": 6 * 10**9}, {"Size": 10**9, "Shared": True}])
    assert list(prune_build_cache(client, 10**9, environ)) == ["removed 2 GB of old build cache"]
    assert client.pruned == [5 * 10**9]


@pytest.mark.parametrize("cache", [None, [{"Size": 10**9 - 1}]])
def test_none_of_it_goes_where_all_of_it_would_not_be_enough(cache) -> None:
    client = Client(cache=cache)
    assert list(prune_build_cache(client, 10**9, OURS)) == []
    assert not client.pruned


def test_an_engine_on_this_machine_keeps_its_data_in_a_folder_here(tmp_path) -> None:
    client = Client(DockerRootDir=str(tmp_path), Name=socket.gethostname())
    assert data_folder(client, {}) == tmp_path
    assert data_folder(client, {"DOCKER_HOST": "unix:///x"}) == tmp_path


@pytest.mark.parametrize(
    ("changes", "environ"),
    [({}, {"DOCKER_HOST": "tcp://10.0.0.1:2376"}), ({}, {"DOCKER_HOST": "ssh://h"}), ({"Name": "other"}, {}),
     ({"DockerRootDir": "/none"}, {})],
)  # fmt: skip
def test_of_an_engine_elsewhere_nobody_here_knows_how_full_it_is(tmp_path, changes, environ) -> None:
    info = {"DockerRootDir": str(tmp_path), "Name": socket.gethostname(), **changes}
    assert data_folder(Client(**info), environ) is None
