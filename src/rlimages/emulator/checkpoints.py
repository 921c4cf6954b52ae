"""Move data of a running training job: stream channels in Pipe mode, copy checkpoints out."""

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from threading import Event, Thread
from types import TracebackType
from typing import IO, Protocol, Self

from rlimages.emulator.training_job import Channel
from rlimages.errors import FactoryError
from rlimages.system.tar import closing_stream, regular_files


class PipeHost(Protocol):
    """What is asked of a host."""

    def pour(self, pipe: str, following: str, sources: Iterable[Path]) -> bool:
        """Write files into a pipe, once somebody reads it; the following one is there before that ends.

        True when they were read, or as much of them as was wanted; False when that can't be, as after its end.
        """


def stream_channels(hosts: Iterable[PipeHost], channels: Sequence[Channel], on_note: Callable[[str], None]) -> None:
    """Pour channels into the pipes of hosts, from threads of their own, until the hosts have ended.

    `on_note` hears of a file that can't be read: its pipe ends there.
    """
    for host in hosts:
        for channel in channels:
            Thread(target=_stream_channel, args=(host, channel, on_note), daemon=True).start()


def channel_files(channel: Channel) -> tuple[Path, ...]:
    """The files of a channel in the order of their names, as S3 lists them."""
    if channel.is_file:
        return (channel.source,)
    return tuple(
        sorted((path for path in channel.source.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    )


def _stream_channel(host: PipeHost, channel: Channel, on_note: Callable[[str], None]) -> None:
    try:
        for epoch in count():
            if not host.pour(channel.pipe(epoch), channel.pipe(epoch + 1), channel_files(channel)):
                return
    except OSError as error:
        on_note(f"channel {channel.name}: cannot read {error.filename}: {error.strerror}")


CHECKPOINTS = "/opt/ml/checkpoints"
PAUSE = 15.0
"""Seconds between the end of one copy and the next; longer where a copy takes long."""
_SHARE = 10
"""Of the time, no more than one part in so many goes into copies."""
PATIENCE = 20.0
"""Seconds for a copy while the job runs: the engine lets nobody else at the container meanwhile, no signal either."""


class CheckpointHost(Protocol):
    """What is asked of a host."""

    def fetch(self, path: str) -> Iterator[bytes] | None:
        """What is at a path, as an archive in pieces; None when nothing is."""


def pack_checkpoints(folder: Path) -> IO[bytes]:
    """An archive for `/` with a folder's files in /opt/ml/checkpoints, where the image's user may change them.

    The folder is made if need be. Raises `FactoryError` where it can't be read.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, f"{CHECKPOINTS.lstrip('/')}/{path.name}", filter=_anyones)
    except OSError as error:
        stream.close()
        raise FactoryError(f"cannot copy the checkpoints of {error.filename or folder}: {error.strerror}") from error
    stream.seek(0)
    return stream


class CheckpointSync:
    """Copies checkpoints out of hosts from time to time, and once more when it is told to."""

    def __init__(
        self, hosts: Sequence[CheckpointHost], folder: Path | None, pause: float = PAUSE, patience: float = PATIENCE
    ) -> None:
        """With no folder nothing is kept. A copy that lasts longer than `patience` was the last before the end."""
        self._hosts = hosts
        self._folder = folder
        self._pause = pause
        self._patience = patience
        self._ended = Event()
        self._thread = Thread(target=self._from_time_to_time, daemon=True)

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._folder is not None and kind is None:
            self._thread.join()

    def keep(self) -> None:
        """Copy everything, now that nothing changes any more. Raises `FactoryError` where it can't be written."""
        if self._folder is None:
            return
        try:
            _copy_checkpoints(self._hosts, self._folder)
        except OSError as error:
            if error.errno is None:  # the engine's client speaks so when the engine went away
                raise
            raise FactoryError(f"cannot write checkpoints to {self._folder}: {error.strerror}") from error

    def _from_time_to_time(self) -> None:
        pause = self._pause
        while self._folder is not None and not self._ended.wait(pause):
            began = time.monotonic()
            with suppress(Exception):  # a file may change while it is read; the last copy is the one that counts
                _copy_checkpoints(self._hosts, self._folder, until=began + self._patience)
            if time.monotonic() - began > self._patience:
                return
            pause = max(self._pause, _SHARE * (time.monotonic() - began))


def _copy_checkpoints(hosts: Iterable[CheckpointHost], folder: Path, until: float = float("inf")) -> None:
    """Copy what hosts have; of two files of one name, that of the first host is kept. Nothing is deleted.

    With a time (of the monotonic clock) to end at, only what seems to be new, and `TimeoutError` where that is late.
    """
    known: set[str] = set()
    for host in hosts:
        pieces = host.fetch(CHECKPOINTS)
        if pieces is None:
            continue
        with closing(regular_files(_until_deadline(pieces, until))) as files:
            for name, entry, content in files:
                if name not in known and ".." not in PurePosixPath(name).parts:
                    known.add(name)
                    if until == float("inf") or _differs(folder / name, entry):
                        _write_copy(folder / name, entry, content)


def _until_deadline(pieces: Iterator[bytes], until: float) -> Iterator[bytes]:
    """Pieces until it is too late. Raises `TimeoutError`."""
    with closing_stream(pieces):
        for piece in pieces:
            if time.monotonic() > until:
                raise TimeoutError
            yield piece


def _differs(path: Path, entry: tarfile.TarInfo) -> bool:
    """True where a copy is not as new, or not as large, as the file."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return True
    return facts.st_size != entry.size or int(facts.st_mtime) != int(entry.mtime)


def _write_copy(path: Path, entry: tarfile.TarInfo, content: IO[bytes]) -> None:
    """Write a copy beside the old one, and move it there when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            shutil.copyfileobj(content, part)
            part.close()
            new = Path(part.name)
            new.chmod(0o644)
            os.utime(new, (entry.mtime, entry.mtime))
            new.replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _anyones(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode |= 0o777 if entry.isdir() else 0o666
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
