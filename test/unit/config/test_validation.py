import pytest
from pydantic import Field

from rlimages.config.schema import Name, StrictModel
from rlimages.config.validation import validate_document
from rlimages.config.yaml import load_yaml
from rlimages.errors import ConfigError


class Inner(StrictModel):
    size: int = 1


class Outer(StrictModel):
    name: Name
    items: list[Inner] = Field(default=[])
    by_name: dict[Name, Inner] = Field(default={})


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        validate_document(load_yaml(text, "f.yaml"), "f.yaml", Outer)
    return str(caught.value)


def test_a_valid_document_is_returned_as_the_model() -> None:
    document = load_yaml("name: a\nitems: [{size: 2}]\n", "f.yaml")
    assert validate_document(document, "f.yaml", Outer) == Outer(name="a", items=[Inner(size=2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nitem: []\n", "f.yaml:2:1: item: unknown key; did you mean 'items'?"),
        ("items: []\n", "f.yaml:1:1: the key 'name' is missing"),
        ("name: 1.10\n", "f.yaml:1:7: name: '1.10' must be a string: write \"1.10\" in quotes"),
        ("name: [a]\n", "f.yaml:1:7: name: this must be a string"),
        ("name: A\n", "f.yaml:1:7: name: 'A' is not of the form ^[a-z][a-z0-9]*(-[a-z0-9.]+)*$"),
        ("name: a\nitems: b\n", "f.yaml:2:8: items: this must be a list, not 'b'"),
        ("name: a\nitems: [b]\n", "f.yaml:2:9: items[0]: this must be a mapping of keys to values, not 'b'"),
        ("name: a\nitems: [{sise: 1}]\n", "f.yaml:2:10: items[0].sise: unknown key; did you mean 'size'?"),
        ("name: a\nby_name: {b: {size: x}}\n", "f.yaml:2:21: by_name.b.size: input should be a valid integer"),
        (
            "name: a\nby_name: {B: {}}\n",
            "f.yaml:2:11: by_name.B: 'B' is not of the form ^[a-z][a-z0-9]*(-[a-z0-9.]+)*$",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_position(text: str, message: str) -> None:
    assert error_of(text) == message


def test_all_mistakes_are_reported_together() -> None:
    assert len(error_of("name: 1\nitem: []\nitems: [{size: x}]\n").splitlines()) == 3
