"""Any text gives cells or a `ConfigError`, never another exception."""

import re
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlimages.errors import ConfigError
from rlimages.matrix.parser import parse_matrix

TEXT = (Path(__file__).resolve().parents[3] / "build_matrix.yaml").read_text()
SMALL = yaml.safe_load(TEXT)
SMALL["toolkits"] = {"ray": {"1.6.0": SMALL["toolkits"]["ray"]["1.6.0"]}}
SMALL_TEXT = yaml.safe_dump(SMALL)
TABLES = ("rl-legacy", "rl-container", "sagemaker-legacy", "deep-learning-containers")
WORDS = re.findall(r"[\w.{}-]+|[^\w\s]|\s+", SMALL_TEXT)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=8
)


def check(text: str) -> None:
    try:
        result = parse_matrix(text, "m.yaml", TABLES)
    except ConfigError as error:
        for line in str(error).splitlines():
            assert re.match(r"m\.yaml:\d+:\d+: .", line), line
    else:
        assert result.cells


@given(st.text())
def test_any_text_gives_cells_or_an_error(text: str) -> None:
    check(text)


@given(values)
def test_any_document_gives_cells_or_an_error(value: object) -> None:
    check(yaml.safe_dump(value))


@given(st.integers(0, len(WORDS) - 1), st.integers(0, 5), st.sampled_from(WORDS) | st.text(max_size=4))
def test_a_matrix_with_replaced_words_gives_cells_or_an_error(start: int, count: int, word: str) -> None:
    check("".join([*WORDS[:start], word, *WORDS[start + count :]]))


def paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for key, inner in items for below in paths(inner, (*path, key)))]


PATHS = [path for path in paths(SMALL) if path]


@given(st.sampled_from(PATHS), values, st.booleans())
def test_a_matrix_with_one_replaced_value_gives_cells_or_an_error(
    path: tuple[str, ...], value: object, remove: bool
) -> None:
    document = yaml.safe_load(SMALL_TEXT)
    target = document
    for key in path[:-1]:
        target = target[key]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    check(yaml.safe_dump(document))
