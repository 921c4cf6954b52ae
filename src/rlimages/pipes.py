"""Channels of a training job in Pipe mode: each time they are read, they are poured anew into a pipe of its own."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Protocol

from rlimages.job import Channel


class Host(Protocol):
    """What is asked of a host."""

    def pour(self, pipe: str, following: str, sources: Iterable[Path]) -> bool:
        """Write files into a pipe, once somebody reads it; the following one is there before that ends.

        True when they were read, or as much of them as was wanted; False when that can't be, as after its end.
        """


def pour(hosts: Iterable[Host], channels: Sequence[Channel], on_note: Callable[[str], None]) -> None:
    """Pour channels into the pipes of hosts, from threads of their own, until the hosts have ended.

    `on_note` hears of a file that can't be read: its pipe ends there.
    """
    for host in hosts:
        for channel in channels:
            Thread(target=_pour, args=(host, channel, on_note), daemon=True).start()


def files(channel: Channel) -> tuple[Path, ...]:
    """The files of a channel in the order of their names, as S3 lists them."""
    if channel.is_file:
        return (channel.source,)
    return tuple(
        sorted((path for path in channel.source.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    )


def _pour(host: Host, channel: Channel, on_note: Callable[[str], None]) -> None:
    try:
        for epoch in count():
            if not host.pour(channel.pipe(epoch), channel.pipe(epoch + 1), files(channel)):
                return
    except OSError as error:
        on_note(f"channel {channel.name}: cannot read {error.filename}: {error.strerror}")
