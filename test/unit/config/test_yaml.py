import pytest

from rlimages.config.yaml import Problem, config_error, format_path, load_yaml
from rlimages.errors import ConfigError


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "f.yaml")
    return str(caught.value)


def test_keys_and_values_have_positions() -> None:
    document = load_yaml("a:\n  - b: 1.10\n", "f.yaml")
    assert document.value == {"a": [{"b": 1.1}]}
    assert document.keys["a", 0, "b"] == (2, 5)
    assert document.values["a", 0, "b"] == (2, 8)
    assert document.raw["a", 0, "b"] == "1.10"


def test_a_date_stays_a_string() -> None:
    assert load_yaml("day: 2024-03-01\n", "f.yaml").value == {"day": "2024-03-01"}


def test_a_path_without_a_value_is_reported_at_its_nearest_parent() -> None:
    document = load_yaml("a:\n  b: 1\n", "f.yaml")
    assert document.problem(("a", "c", 3), "missing") == Problem(
        line=2, column=3, path=("a", "c", 3), message="missing"
    )


def test_a_problem_can_be_reported_at_a_key() -> None:
    document = load_yaml("a:\n  b: 1\n", "f.yaml")
    assert document.problem(("a", "b"), "unknown", at_key=True).column == 3
    assert document.problem(("a", "b"), "wrong").column == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: a: duplicate key, first given on line 1"),
        ("1: a\n", "f.yaml:1:1: a key must be a string: write '1' in quotes"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "f.yaml:2:5: c: a key must be a string: merge keys are not supported"),
        ("a: !!int x\n", "f.yaml:1:4: a: 'x' cannot be read as int; write it in quotes"),
    ],
)
def test_a_mistake_is_reported_with_its_position(text: str, message: str) -> None:
    assert error_of(text) == message


def test_nesting_is_limited() -> None:
    assert "nesting that is too deep" in error_of("[" * 100 + "]" * 100)


def test_control_characters_of_a_file_are_escaped_in_messages() -> None:
    problem = Problem(line=1, column=1, path=(), message="\x1b[2J")
    assert str(config_error("f.yaml", [problem])) == r"f.yaml:1:1: \x1b[2J"


def test_problems_are_sorted_and_reported_once() -> None:
    second = Problem(line=2, column=1, path=("b",), message="wrong")
    first = Problem(line=1, column=1, path=("a",), message="wrong")
    assert str(config_error("f.yaml", [second, first, second])) == "f.yaml:1:1: a: wrong\nf.yaml:2:1: b: wrong"


def test_a_path_is_shown_with_dots_indexes_and_quoted_keys() -> None:
    assert format_path(("toolkits", "ray", "1.6.0", "images", 0)) == "toolkits.ray['1.6.0'].images[0]"
