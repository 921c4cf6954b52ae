import time
from pathlib import Path

import pytest

from rlimages.emulator.pipe_mode import channel_files, stream_channels
from rlimages.emulator.training_job import Channel, InputMode


class FakeHost:
    """A host whose script reads each channel `readings` times, and then ends."""

    def __init__(self, readings: int) -> None:
        self.readings = readings
        self.written: list[tuple[str, str, list[str]]] = []
        self.ended = False

    def write_pipe(self, pipe: str, next_pipe: str, sources) -> bool:
        self.written.append((pipe, next_pipe, [source.read_text() for source in sources]))
        self.ended = len(self.written) >= self.readings
        return not self.ended


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    for name in ("b", "a/z", "a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return Channel(name="t", source=tmp_path, mode=InputMode.PIPE)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_a_channel_is_written_to_a_new_pipe_for_each_reading(channel) -> None:
    host = FakeHost(2)
    stream_channels([host], [channel], lambda _note: None)
    wait_for(lambda: host.ended)
    content = ["a.csv", "a/z", "b"]
    assert host.written == [
        ("/opt/ml/input/data/t_0", "/opt/ml/input/data/t_1", content),
        ("/opt/ml/input/data/t_1", "/opt/ml/input/data/t_2", content),
    ]


def test_files_are_in_the_order_in_which_s3_lists_them(channel, tmp_path) -> None:
    assert [path.relative_to(tmp_path).as_posix() for path in channel_files(channel)] == ["a.csv", "a/z", "b"]
    assert channel_files(Channel(name="t", source=tmp_path / "b", is_file=True)) == (tmp_path / "b",)


def test_a_file_that_cannot_be_read_is_noted(channel) -> None:
    notes: list[str] = []

    class BrokenHost(FakeHost):
        def write_pipe(self, pipe: str, next_pipe: str, sources) -> bool:
            raise PermissionError(13, "Permission denied", "b")

    stream_channels([BrokenHost(1)], [channel], notes.append)
    wait_for(lambda: notes)
    assert notes == ["channel t: cannot read b: Permission denied"]
