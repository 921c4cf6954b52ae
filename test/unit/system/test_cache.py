from pathlib import Path
from types import MappingProxyType

import pytest

from rlimages.system.cache import cached


class Work:
    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> tuple[object, ...]:
        self.done += 1
        return ("worked out", MappingProxyType({"a": "b"}))


@pytest.fixture
def work() -> Work:
    return Work()


def test_a_text_is_worked_out_once(tmp_path: Path, work: Work) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (cached("text", tuple, work, environ) for _ in range(2))
    assert first == second == ("worked out", {"a": "b"})
    assert work.done == 1


def test_another_text_is_another_matter(tmp_path: Path, work: Work) -> None:
    for text in ("one", "two"):
        cached(text, tuple, work, {"XDG_CACHE_HOME": str(tmp_path)})
    assert work.done == 2


@pytest.mark.parametrize("rubbish", [b"", b"not a pickle", b"\x80\x04K\x01."], ids=["empty", "broken", "another kind"])
def test_a_spoilt_memory_is_worked_out_again(tmp_path: Path, work: Work, rubbish: bytes) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    cached("text", tuple, work, environ)
    (memory,) = (tmp_path / "rlimages").iterdir()
    memory.write_bytes(rubbish)
    assert cached("text", tuple, work, environ)[0] == "worked out"
    assert work.done == 2


def test_a_home_that_cannot_be_written_to_has_no_memory(tmp_path: Path, work: Work) -> None:
    (tmp_path / "rlimages").write_text("a file where the folder should be")
    assert cached("text", tuple, work, {"XDG_CACHE_HOME": str(tmp_path)})[0] == "worked out"
