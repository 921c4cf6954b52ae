"""Create and read tar streams, the format in which Docker copies files into and out of containers."""

import io
import tarfile
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rlimages.errors import FactoryError

if TYPE_CHECKING:
    from typing_extensions import Buffer


def pack_tar(
    folders: Iterable[str], texts: Mapping[str, str], sources: Mapping[str, Path], pipes: Iterable[str] = ()
) -> IO[bytes]:
    """Return an open temporary file with a tar archive to unpack at `/` of a container. The caller closes it.

    All paths are absolute paths in the container. `folders` are created empty, with mode 0777. `texts` maps the path of
    a small file to its content. `sources` maps a path to the file or folder of this machine to copy there; symbolic
    links are followed, as the SageMaker SDK does. `pipes` are created as named pipes. Raise `FactoryError` if a source
    can't be read.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - returned to the caller, who closes it
    try:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            for path in folders:
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o777
                archive.addfile(entry)
            for path in pipes:
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.type, entry.mode = tarfile.FIFOTYPE, 0o666
                archive.addfile(entry)
            for path, text in texts.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(text.encode()), 0o644
                archive.addfile(entry, io.BytesIO(text.encode()))
            for path, source in sources.items():
                archive.add(source, path.lstrip("/"), filter=_owned_by_root)
    except OSError as error:
        stream.close()
        raise FactoryError(
            f"cannot copy {error.filename or 'the code'} into the container: {error.strerror}"
        ) from error
    stream.seek(0)
    return stream


def merge_tars(archives: Iterable[Iterable[bytes]], target: Path) -> None:
    """Write the entries of several tar archives to the new file `target`, a .tar.gz.

    Each archive is an iterable of chunks and holds one folder, as Docker exports it; names in the result are relative
    to that folder. If several archives have a file of one name, the first is kept. `target` appears only when it is
    complete.
    """
    part = target.with_name(f"{target.name}.part")
    names: set[str] = set()
    with tarfile.open(part, "w:gz") as merged:
        for chunks in archives:
            with _open_stream(chunks) as archive:
                for entry in archive:
                    name = _without_first_folder(entry.name)
                    if name and name not in names:
                        names.add(name)
                        entry.name = name
                        if entry.islnk():
                            entry.linkname = _without_first_folder(entry.linkname)
                        merged.addfile(entry, archive.extractfile(entry) if entry.isreg() else None)
    part.replace(target)


def regular_files(chunks: Iterable[bytes]) -> Generator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    """Yield (name, entry, content) of every regular file in the tar archive that `chunks` contain.

    The name is relative to the one folder that the archive holds, as Docker exports it. The content can be read only
    until the next file is requested. Hard links are left out.
    """
    with _open_stream(chunks) as archive:
        for entry in archive:
            name = _without_first_folder(entry.name)
            file = archive.extractfile(entry) if name and entry.isreg() else None
            if file is not None:
                yield name, entry, file


def read_first_text(chunks: Iterable[bytes], characters: int) -> str:
    """Return at most `characters` characters from the start of the first regular file in the tar archive in `chunks`.

    Return an empty string if the archive has no regular file. Bytes that are not UTF-8 are replaced.
    """
    with _open_stream(chunks) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isreg() else None
            if file is not None:
                # a character has at most four bytes in UTF-8
                return file.read(4 * characters).decode("utf-8", errors="replace")[:characters]
    return ""


@contextmanager
def closing_stream(chunks: Iterator[bytes]) -> Iterator[None]:
    """Close the stream `chunks` from Docker at the end of the block, even if it was not read to its end.

    While it is open, Docker keeps the container locked, and other requests for that container wait.
    """
    try:
        yield
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


@contextmanager
def _open_stream(chunks: Iterable[bytes]) -> Iterator[tarfile.TarFile]:
    """Yield the tar archive that `chunks` contain, for reading from its beginning to its end.

    At the end of a block without an error, the rest of `chunks` is read; then the stream is closed.
    """
    stream = iter(chunks)
    with closing_stream(stream):
        with tarfile.open(fileobj=ChunkStream(stream), mode="r|") as archive:
            yield archive
        deque(stream, maxlen=0)  # reads the padding after the archive's end, which tarfile leaves


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make root the owner of an entry, and return the entry: users of this machine do not exist in the container."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _without_first_folder(name: str) -> str:
    """Return the part of an entry's `name` below its first folder; an empty string for that folder itself."""
    return name.strip("/").partition("/")[2]


class ChunkStream(io.RawIOBase):
    """A readable binary stream whose content is a sequence of chunks, such as the response of the engine."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Create the stream of the bytes of all `chunks`, which are requested one by one while the stream is read."""
        self._chunks: Iterator[bytes] = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True: the stream can always be read."""
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        """Copy the next bytes of the current chunk into `buffer`, as many as fit. Return their number; 0 at the end."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        space = memoryview(buffer).cast("B")
        size = min(len(space), len(self._left))
        space[:size], self._left = self._left[:size], self._left[size:]
        return size
