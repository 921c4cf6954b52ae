"""Make and read tar streams, the format in which an engine copies files into and out of containers."""

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
    """An archive for `/` with open folders, small texts, copies of files or folders, and pipes, all by absolute path.

    Links are followed, as the SDK does. It is a file without a name, which leaves nothing behind. Raises
    `FactoryError` where a source can't be read.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
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
                archive.add(source, path.lstrip("/"), filter=_of_root)
    except OSError as error:
        stream.close()
        raise FactoryError(
            f"cannot copy {error.filename or 'the code'} into the container: {error.strerror}"
        ) from error
    stream.seek(0)
    return stream


def merge_tars(archives: Iterable[Iterable[bytes]], target: Path) -> None:
    """Write one .tar.gz of the contents of several folders; of two files of one name the first is kept.

    Each archive holds one folder, as the engine gives it, in pieces. The target appears when it is complete.
    """
    part = target.with_name(f"{target.name}.part")
    known: set[str] = set()
    with tarfile.open(part, "w:gz") as united:
        for pieces in archives:
            with _open_stream(pieces) as archive:
                for entry in archive:
                    name = _below(entry.name)
                    if name and (name not in known):
                        known.add(name)
                        entry.name = name
                        if entry.islnk():
                            entry.linkname = _below(entry.linkname)
                        united.addfile(entry, archive.extractfile(entry) if entry.isreg() else None)
    part.replace(target)


def regular_files(pieces: Iterable[bytes]) -> Generator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    """The regular files of an archive that holds one folder: name below it, entry and content, in order.

    Each content can be read until the next is asked for. A second name of a file is not among them.
    """
    with _open_stream(pieces) as archive:
        for entry in archive:
            name = _below(entry.name)
            file = archive.extractfile(entry) if name and entry.isreg() else None
            if file is not None:
                yield name, entry, file


def read_first_text(pieces: Iterable[bytes], characters: int) -> str:
    """The beginning of the one file that an archive holds; bytes that are no UTF-8 are replaced."""
    with _open_stream(pieces) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isreg() else None
            if file is not None:
                return file.read(4 * characters).decode("utf-8", errors="replace")[:characters]
    return ""


@contextmanager
def closing_stream(pieces: Iterator[bytes]) -> Iterator[None]:
    """Hang up at the end, whatever happens: while anyone listens, the engine lets nobody else at the container."""
    try:
        yield
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


@contextmanager
def _open_stream(pieces: Iterable[bytes]) -> Iterator[tarfile.TarFile]:
    """An archive that comes in pieces, all of which are read unless something happens."""
    rest = iter(pieces)
    with closing_stream(rest):
        with tarfile.open(fileobj=ChunkStream(rest), mode="r|") as archive:
            yield archive
        deque(rest, maxlen=0)


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _below(name: str) -> str:
    """A name without its first folder."""
    return name.strip("/").partition("/")[2]


class ChunkStream(io.RawIOBase):
    """Pieces of bytes as a stream to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        """Fill the buffer with what is there of one piece; nothing only at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        room = memoryview(buffer).cast("B")
        size = min(len(room), len(self._left))
        room[:size], self._left = self._left[:size], self._left[size:]
        return size
