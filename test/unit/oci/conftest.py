"""Archives for the tests of layers and saved images."""

import io
import tarfile
from collections.abc import Callable, Mapping

import pytest

Tar = Callable[[Mapping[str, bytes | tarfile.TarInfo]], bytes]


def make_tar(entries: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return an archive with these entries; bytes are the content of a file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries.items():
            if isinstance(content, bytes):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                content.name = name
                archive.addfile(content)
    return stream.getvalue()


@pytest.fixture
def tar() -> Tar:
    return make_tar
