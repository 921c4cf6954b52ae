"""Stream the files of a channel into named pipes of a running container, as SageMaker's Pipe mode does."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Protocol

from rlimages.emulator.training_job import Channel


class PipeHost(Protocol):
    """The part of a training host that Pipe mode uses; tests implement it with a fake."""

    def write_pipe(self, pipe: str, next_pipe: str, sources: Iterable[Path]) -> bool:
        """Write the files `sources` into the container's named pipe `pipe`, and wait until a program has read them.

        Creates the pipe `next_pipe` first, so that it exists when the program reads the channel again. Returns True if
        a program read everything, or closed the pipe before the end. Returns False if the pipe cannot be written,
        because the container has ended. Raises `OSError` if a file of `sources` cannot be read.
        """


def stream_channels(hosts: Iterable[PipeHost], channels: Sequence[Channel], note: Callable[[str], None]) -> None:
    """Start a thread for each host and each channel, which writes the channel's files into named pipes of the host.

    The script of the host reads the channel as often as it wants, each time from a new pipe; a thread ends when its
    host ends. If a file cannot be read, `note` gets a line about it, and no more is written to this host's pipe of the
    channel.
    """
    for host in hosts:
        for channel in channels:
            Thread(target=_stream_channel, args=(host, channel, note), daemon=True).start()


def channel_files(channel: Channel) -> tuple[Path, ...]:
    """Return the files of `channel`, with those in subfolders, in the order of their names, in which S3 lists them."""
    if channel.is_file:
        return (channel.source,)
    return tuple(
        sorted((path for path in channel.source.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    )


def _stream_channel(host: PipeHost, channel: Channel, note: Callable[[str], None]) -> None:
    """Write the files of `channel` into one pipe of `host` after another, until the host ends or an error is noted."""
    try:
        for epoch in count():
            if not host.write_pipe(channel.pipe(epoch), channel.pipe(epoch + 1), channel_files(channel)):
                return
    except OSError as error:
        note(f"channel {channel.name}: cannot read {error.filename}: {error.strerror}")
