"""Pipe mode: stream the files of a channel into named pipes of a running container."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Protocol

from rlimages.emulator.training_job import Channel


class PipeHost(Protocol):
    """The part of a training host that Pipe mode uses; tests implement it with a fake."""

    def write_pipe(self, pipe: str, next_pipe: str, sources: Iterable[Path]) -> bool:
        """Create the pipe for the next reading, then write files into `pipe` once a program reads it.

        Returns True if the program read them, or closed the pipe early. Returns False if the pipe cannot be written,
        because the container has ended. Raises `OSError` if a file cannot be read.
        """


def stream_channels(hosts: Iterable[PipeHost], channels: Sequence[Channel], note: Callable[[str], None]) -> None:
    """Start threads that write the channels into the pipes of the hosts, again and again, until the hosts end.

    If a file cannot be read, that is noted, and the channel's pipe ends there.
    """
    for host in hosts:
        for channel in channels:
            Thread(target=_stream_channel, args=(host, channel, note), daemon=True).start()


def channel_files(channel: Channel) -> tuple[Path, ...]:
    """Return the files of a channel in the order of their names, in which S3 lists them."""
    if channel.is_file:
        return (channel.source,)
    return tuple(
        sorted((path for path in channel.source.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    )


def _stream_channel(host: PipeHost, channel: Channel, note: Callable[[str], None]) -> None:
    try:
        for epoch in count():
            if not host.write_pipe(channel.pipe(epoch), channel.pipe(epoch + 1), channel_files(channel)):
                return
    except OSError as error:
        note(f"channel {channel.name}: cannot read {error.filename}: {error.strerror}")
