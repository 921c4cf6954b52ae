import socket
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from rlimages.engine.cleanup import data_folder, prune_build_cache, remove_dangling_images


class Client:
    """A Docker client with some images and some build cache."""

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


def test_only_the_given_dangling_images_are_removed() -> None:
    client = Client("sha256:ours", "sha256:of-another-checkout")
    lines = list(remove_dangling_images(client, {"sha256:ours", "sha256:long-gone"}))
    assert client.removed == ["sha256:ours"]
    assert lines == ["removed an old image of c that has no name (ours)"]


def test_an_image_that_a_container_uses_is_kept() -> None:
    client = Client("sha256:1", "sha256:2", used=("sha256:1",))
    assert len(list(remove_dangling_images(client, {"sha256:1", "sha256:2"}))) == 1
    assert client.removed == ["sha256:2"]


OWN_ENGINE = {"DOCKER_HOST": "unix:///x/home/docker.sock", "RLIMAGES_HOME": "/x/home"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"DOCKER_HOST": "unix:///var/run/docker.sock"},
        {**OWN_ENGINE, "RLIMAGES_HOME": "/y"},
        {"DOCKER_HOST": "tcp://x:1"},
    ],
)
def test_the_build_cache_of_another_engine_is_kept(environ) -> None:
    client = Client(cache=[{"Size": 9}])
    assert list(prune_build_cache(client, 1, environ)) == []
    assert not client.pruned


@pytest.mark.parametrize("environ", [OWN_ENGINE, {"DOCKER_HOST": "unix:///var/lib/rlimages/docker.sock"}])
def test_the_given_size_of_build_cache_is_removed_from_our_own_engine(environ) -> None:
    client = Client(cache=[{"Size": 6 * 10**9}, {"Size": 10**9, "Shared": True}])
    assert list(prune_build_cache(client, 10**9, environ)) == ["removed 2 GB of old build cache"]
    assert client.pruned == [5 * 10**9]


@pytest.mark.parametrize("cache", [None, [{"Size": 10**9 - 1}]])
def test_no_build_cache_is_removed_if_all_of_it_is_too_small(cache) -> None:
    client = Client(cache=cache)
    assert list(prune_build_cache(client, 10**9, OWN_ENGINE)) == []
    assert not client.pruned


def test_the_data_folder_of_a_local_engine_is_known(tmp_path) -> None:
    client = Client(DockerRootDir=str(tmp_path), Name=socket.gethostname())
    assert data_folder(client, {}) == tmp_path
    assert data_folder(client, {"DOCKER_HOST": "unix:///x"}) == tmp_path


@pytest.mark.parametrize(
    ("changes", "environ"),
    [({}, {"DOCKER_HOST": "tcp://10.0.0.1:2376"}), ({}, {"DOCKER_HOST": "ssh://h"}), ({"Name": "other"}, {}),
     ({"DockerRootDir": "/none"}, {})],
)  # fmt: skip
def test_the_data_folder_of_a_remote_engine_is_unknown(tmp_path, changes, environ) -> None:
    info = {"DockerRootDir": str(tmp_path), "Name": socket.gethostname(), **changes}
    assert data_folder(Client(**info), environ) is None
