"""Copy checkpoints between a folder of this machine and /opt/ml/checkpoints of the hosts of a training job."""

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from threading import Event, Thread
from types import TracebackType
from typing import IO, Protocol, Self

from rlimages.emulator.training_job import CHECKPOINTS
from rlimages.errors import FactoryError
from rlimages.system.tar import closing_stream, regular_files

PAUSE_SECONDS = 15.0
"""Shortest pause in seconds between the end of one copy and the start of the next."""
PAUSE_FACTOR = 10
"""A pause is at least this many times as long as the copy before it, so that copies take few resources."""
COPY_LIMIT_SECONDS = 20.0
"""Time limit in seconds of a copy while the job runs.

Docker locks the container meanwhile: a signal to it would wait.
"""


class CheckpointHost(Protocol):
    """The part of a training host that copying checkpoints uses; tests implement it with a fake."""

    def read_archive(self, path: str) -> Iterator[bytes] | None:
        """Return the file or folder `path` of the container as chunks of a tar archive; None if it does not exist."""


def pack_checkpoints(folder: Path) -> IO[bytes]:
    """Return an open tar archive, to unpack at `/` of a container, with the content of `folder` in /opt/ml/checkpoints.

    Every user may change the files, as the user that the image runs as is not known. The folder is created if it does
    not exist. Raises `FactoryError` if it cannot be read or created.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - returned to the caller, who closes it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, f"{CHECKPOINTS.lstrip('/')}/{path.name}", filter=_writable_for_all)
    except OSError as error:
        stream.close()
        raise FactoryError(f"cannot copy the checkpoints in {error.filename or folder}: {error.strerror}") from error
    stream.seek(0)
    return stream


class CheckpointSync:
    """Copies checkpoints from hosts to a folder of this machine: regularly while the job runs, and once at its end.

    In a `with` block, a thread makes the regular copies. SageMaker also copies while a job runs, so that a job that is
    killed can continue from its last checkpoint.
    """

    def __init__(
        self,
        hosts: Sequence[CheckpointHost],
        folder: Path | None,
        pause: float = PAUSE_SECONDS,
        limit: float = COPY_LIMIT_SECONDS,
    ) -> None:
        """Copy from `hosts` to `folder`; nothing is copied if `folder` is None.

        `pause` is the shortest time between two regular copies, in seconds. After a copy that took longer than `limit`
        seconds, there are no more regular copies.
        """
        self._hosts = hosts
        self._folder = folder
        self._pause = pause
        self._limit = limit
        self._ended = Event()
        self._thread = Thread(target=self._copy_regularly, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread of the regular copies, if there is a folder."""
        if self._folder is not None:
            self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the regular copies. Without an error, wait for a copy that still runs."""
        self._ended.set()
        if self._folder is not None and error_type is None:
            self._thread.join()

    def copy_all(self) -> None:
        """Copy every file, after the hosts have ended. Raises `FactoryError` if the folder cannot be written."""
        if self._folder is None:
            return
        try:
            _copy_checkpoints(self._hosts, self._folder)
        except OSError as error:
            if error.errno is None:  # the Docker client's own error, a subclass of OSError: the engine went away
                raise
            raise FactoryError(f"cannot write checkpoints to {self._folder}: {error.strerror}") from error

    def _copy_regularly(self) -> None:
        """Copy changed files until the `with` block ends, with pauses between the copies."""
        pause = self._pause
        while self._folder is not None and not self._ended.wait(pause):
            started = time.monotonic()
            # A file may change while it is read. That is no reason to fail: the copy at the end counts.
            with suppress(Exception):
                _copy_checkpoints(self._hosts, self._folder, deadline=started + self._limit)
            if time.monotonic() - started > self._limit:
                return
            pause = max(self._pause, PAUSE_FACTOR * (time.monotonic() - started))


def _copy_checkpoints(hosts: Iterable[CheckpointHost], folder: Path, deadline: float | None = None) -> None:
    """Copy the files in /opt/ml/checkpoints of all hosts to `folder`. Nothing in `folder` is deleted.

    If two hosts have a file with one name, that of the first host is copied. With a `deadline`, in seconds of the
    monotonic clock, files whose size and time have not changed are not copied, and `TimeoutError` is raised when the
    deadline has passed.
    """
    copied: set[str] = set()
    for host in hosts:
        chunks = host.read_archive(CHECKPOINTS)
        if chunks is None:
            continue
        with closing(regular_files(_read_until(chunks, deadline))) as files:
            for name, entry, content in files:
                # the script controls the names: none may point outside the folder
                if name not in copied and ".." not in PurePosixPath(name).parts:
                    copied.add(name)
                    if deadline is None or _differs(folder / name, entry):
                        _write_copy(folder / name, entry, content)


def _read_until(chunks: Iterator[bytes], deadline: float | None) -> Iterator[bytes]:
    """Yield `chunks` until `deadline`, in seconds of the monotonic clock; without a limit if it is None.

    Raises `TimeoutError` at the first chunk after the deadline.
    """
    with closing_stream(chunks):
        for chunk in chunks:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            yield chunk


def _differs(path: Path, entry: tarfile.TarInfo) -> bool:
    """Return True if the copy at `path` is missing, or has another size or time than `entry`, the container's file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return status.st_size != entry.size or int(status.st_mtime) != int(entry.mtime)


def _write_copy(path: Path, entry: tarfile.TarInfo, content: IO[bytes]) -> None:
    """Write `content` to a temporary file beside `path`, set the time of `entry`, and rename the file to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            shutil.copyfileobj(content, part)
            part.close()
            complete = Path(part.name)
            # A temporary file has mode 0600.
            complete.chmod(0o644)
            os.utime(complete, (entry.mtime, entry.mtime))
            complete.replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _writable_for_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give `entry` to root, let every user write it, and return it."""
    entry.mode |= 0o777 if entry.isdir() else 0o666
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
