"""Where the images of a release come from, and from which repositories its layers can be mounted."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from rlimages.errors import RegistryError
from rlimages.oci.manifest import DOCKER_CONFIG, Blob, Manifest, compose_manifest
from rlimages.project.state import StateFolder
from rlimages.release.model import ReleaseItem, TargetRegistry
from rlimages.release.sources import LocalStoreSource, MixedSource, RegistrySource, nearest_connection

ITEM = ReleaseItem(cell="a", repository="a", image="sha256:c", tags=("1",))
OTHER = ReleaseItem(cell="b", repository="b", image="sha256:c", tags=("1",))
TESTED = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest="sha256:c", size=3), [])


class Client:
    """A registry that has one manifest under a tag of each repository."""

    def __init__(self, manifest: Manifest | None = TESTED) -> None:
        self.held = manifest

    def read_manifest(self, _repository: str, tag_or_digest: str) -> Manifest | None:
        return self.held if tag_or_digest == "1" else None

    def stream_blob(self, repository: str, digest: str) -> Iterator[bytes]:
        yield f"{repository}@{digest}".encode()


def connect_to(name: str, host: str, client: Client | None = None):
    registry = TargetRegistry(name=name, host=host, prefix=name.partition("/")[0])
    return SimpleNamespace(registry=registry, client=client or Client())


def source_of(*connections) -> RegistrySource:
    return RegistrySource(connections=connections, items=[ITEM, OTHER], tags={"a": "1", "b": "1"})


def everything(_blob: Blob) -> bool:
    return True


def test_an_image_of_a_registry_is_copied_as_it_is() -> None:
    content = source_of(connect_to("test/us", "us")).fetch(ITEM, connect_to("prod/us", "us"), everything)
    assert content.manifest is TESTED
    assert b"".join(content.chunks(TESTED.blobs[0])) == b"test/a@sha256:c"


@pytest.mark.parametrize(("held", "found"), [(None, "gone"), ("sha256:d", "sha256:d")])
def test_a_tag_that_moved_since_the_release_was_started_is_an_error(held, found) -> None:
    other = held and compose_manifest(Blob(media_type=DOCKER_CONFIG, digest=held, size=3), [])
    with pytest.raises(RegistryError) as raised:
        source_of(connect_to("test/us", "us", Client(other))).fetch(ITEM, connect_to("prod/us", "us"), everything)
    assert str(raised.value) == f"us/test/a:1 is {found} now; this release was started with sha256:c"


def test_layers_are_mounted_only_within_one_registry() -> None:
    source = source_of(connect_to("test/us", "us"))
    assert source.mountable_from(connect_to("prod/us", "us")) == ("test/a", "test/b")
    assert source.mountable_from(connect_to("prod/eu", "eu")) == ()


def test_the_nearest_registry_is_the_same_then_one_of_the_same_region_then_the_first() -> None:
    first, second = connect_to("test/us", "us"), connect_to("test/eu", "eu")
    assert nearest_connection([first, second], connect_to("prod/us", "eu")) is second
    assert nearest_connection([first, second], connect_to("prod/eu", "other")) is second
    assert nearest_connection([first, second], connect_to("prod/ap", "other")) is first


def test_a_mixed_source_takes_each_image_from_where_it_is(tmp_path) -> None:
    packed = object()

    class Local(LocalStoreSource):
        def pack(self, _item, _wanted):
            return packed

    registry = source_of(connect_to("test/us", "us"))
    local = Local(lambda _image: iter(()), StateFolder(tmp_path))
    source = MixedSource(local=local, registry=registry, in_registry={"b"})
    destination = connect_to("test/us", "us")
    assert source.fetch(ITEM, destination, everything) is packed
    assert source.fetch(OTHER, destination, everything).manifest is TESTED
    assert source.mountable_from(destination) == ("test/a", "test/b")
    assert local.mountable_from(destination) == ()
