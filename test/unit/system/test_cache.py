from pathlib import Path
from types import MappingProxyType

import pytest

from rlimages.system.cache import cached


class Computation:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> tuple[object, ...]:
        self.count += 1
        return ("computed", MappingProxyType({"a": "b"}))


@pytest.fixture
def compute() -> Computation:
    return Computation()


def test_the_value_of_a_text_is_computed_once(tmp_path: Path, compute: Computation) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (cached("text", tuple, compute, environ) for _ in range(2))
    assert first == second == ("computed", {"a": "b"})
    assert compute.count == 1


def test_another_text_has_another_value(tmp_path: Path, compute: Computation) -> None:
    for text in ("one", "two"):
        cached(text, tuple, compute, {"XDG_CACHE_HOME": str(tmp_path)})
    assert compute.count == 2


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04K\x01."], ids=["empty", "broken", "another kind"])
def test_a_damaged_cache_file_is_computed_again(tmp_path: Path, compute: Computation, content: bytes) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    cached("text", tuple, compute, environ)
    (file,) = (tmp_path / "rlimages").iterdir()
    file.write_bytes(content)
    assert cached("text", tuple, compute, environ)[0] == "computed"
    assert compute.count == 2


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path: Path, compute: Computation) -> None:
    (tmp_path / "rlimages").write_text("a file where the folder should be")
    assert cached("text", tuple, compute, {"XDG_CACHE_HOME": str(tmp_path)})[0] == "computed"
