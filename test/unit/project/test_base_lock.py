"""The base lock is parsed and written."""

import pytest

from rlimages.errors import ConfigError
from rlimages.project.base_lock import LockedBase, format_base_lock, parse_base_lock

ONE = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("version: 2\nbases: {}\n", "version: "),
        ("version: 1\nbases: {a: {digest: abc, asked: '2026-01-01'}}\n", "bases.a.digest: "),
        ("version: 1\nbases: {a: {digest: null, asked: '2026-01-01', more: 1}}\n", "bases.a.more: "),
        ("[", "is not YAML"),
    ],
)
def test_a_broken_base_lock_is_an_error_with_the_path_of_the_mistake(text: str, path: str) -> None:
    with pytest.raises(ConfigError, match=f"build_matrix.lock.yaml: {path}.*`rlimages bases --update`"):
        parse_base_lock(text)


def test_a_formatted_base_lock_is_parsed_to_the_same_entries() -> None:
    bases = {
        "b": LockedBase(digest=ONE, date="2026-01-01"),
        "a": LockedBase(digest=None, date="2026-01-02", unreachable="x: y"),
    }
    assert parse_base_lock(format_base_lock(bases)) == bases
    assert format_base_lock(bases).index("  a:") < format_base_lock(bases).index("  b:")
