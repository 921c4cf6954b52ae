import io
import json
import tarfile

import pytest

from rlimages import archive, distribution
from rlimages.archive import Shelf
from rlimages.errors import ToolError
from rlimages.prepacking import packer
from rlimages.results import CellReport, Image
from rlimages.shell import Stop

LAYER = b"a layer " * 100


def saved() -> tuple[str, bytes]:
    """An image of one layer: its id, and what the engine saves."""
    diff = distribution.digest(LAYER)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
    name = distribution.digest(config)
    manifest = json.dumps([{"Config": f"blobs/sha256/{name[7:]}", "Layers": [f"blobs/sha256/{diff[7:]}"]}]).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for path, content in (
            (f"blobs/sha256/{name[7:]}", config),
            (f"blobs/sha256/{diff[7:]}", LAYER),
            ("manifest.json", manifest),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return name, buffer.getvalue()


@pytest.fixture
def passed(cell):
    name, _ = saved()
    return CellReport(cell=cell, image=Image(id=name, size=1))


def test_a_release_finds_packed_what_passed_before_it(passed, tmp_path) -> None:
    name, content = saved()
    packer(lambda _image: iter([content]), tmp_path, Stop())(passed)

    def never():
        raise AssertionError("it was saved a second time")

    packed = archive.pack(name, never, tmp_path / "blobs", Shelf(tmp_path / "packed"))
    assert packed.manifest.image == name


def test_what_was_packed_before_is_not_packed_again(passed, tmp_path) -> None:
    _, content = saved()
    asked = []
    pack = packer(lambda image: asked.append(image) or iter([content]), tmp_path, Stop())
    pack(passed)
    for blob in (tmp_path / "blobs").iterdir():
        blob.unlink()
    pack(passed)
    assert len(asked) == 1


def test_what_goes_wrong_is_left_for_the_release_to_say(passed, tmp_path) -> None:
    def gone(_image):
        raise ToolError("the Docker engine does not answer any more")

    packer(gone, tmp_path, Stop())(passed)


def test_a_stopped_run_leaves_nothing_half_packed(passed, tmp_path) -> None:
    _, content = saved()
    stop = Stop()

    def pieces(_image):
        yield content[:600]
        stop.set()
        yield content[600:]

    packer(pieces, tmp_path, stop)(passed)
    assert not list((tmp_path / "blobs").iterdir())
