"""Read YAML and keep the line and column of every key and value, so that an error can point at its place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from rlimages.errors import ConfigError

KeyPath = tuple[str | int, ...]
Value = Any
"""Nested dicts with string keys, lists and scalars."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")
_MAX_DEPTH = 64
"""Deeper than any matrix; keeps a hostile file from exhausting the stack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One mistake in a file, with its place."""

    line: int
    """From 1."""
    column: int
    """From 1, as editors count."""
    path: KeyPath
    message: str

    def render(self, name: str) -> str:
        """`file:line:column: path: what`."""
        where = format_path(self.path)
        text = f"{where}: {self.message}" if where else self.message
        return f"{name}:{self.line}:{self.column}: {_printable(text)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A document and the position of every key and value in it."""

    value: Value
    values: Mapping[KeyPath, tuple[int, int]] = field(repr=False)
    keys: Mapping[KeyPath, tuple[int, int]] = field(repr=False)
    raw: Mapping[KeyPath, str] = field(repr=False)
    """Scalars as they are written, before YAML made numbers of them."""

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A mistake at a path; a path that does not exist is shown at its nearest parent."""
        place: tuple[int, int] | None = self.keys.get(path) if at_key else None
        known = path
        while place is None:
            place = self.values.get(known)
            if not known:
                break
            known = known[:-1]
        line, column = place or (1, 1)
        return Problem(line=line, column=column, path=path, message=message)


def config_error(name: str, problems: list[Problem]) -> ConfigError:
    """One error that lists every mistake, in the order of the file."""
    ordered = sorted(set(problems), key=lambda p: (p.line, p.column, p.message))
    return ConfigError("\n".join(problem.render(name) for problem in ordered))


def _printable(text: str) -> str:
    """One line, whatever the file holds: a control character is shown, not obeyed."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def format_path(path: KeyPath) -> str:
    """`toolkits.ray['1.6.0'].images[0]`: how a path is written in messages."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "_").isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def load_yaml(text: str, name: str) -> Document:
    """Read one YAML document. Raises `MatrixError` for bad syntax and for every duplicate or non-string key."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(filter(None, [error.context, error.problem])) or "not YAML"
        raise ConfigError(f"{name}:{line}:{column}: {_printable(what)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{name}:1:1: this is not YAML: {_printable(reason)}") from None
    reader = _Reader()
    value = reader.read(node, ()) if node is not None else None
    if reader.problems:
        raise config_error(name, reader.problems)
    return Document(value=value, values=reader.values, keys=reader.keys, raw=reader.raw)


class _Reader:
    def __init__(self) -> None:
        self.values: dict[KeyPath, tuple[int, int]] = {}
        self.keys: dict[KeyPath, tuple[int, int]] = {}
        self.raw: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: KeyPath) -> Value:
        self.values[path] = _place(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open or len(path) > _MAX_DEPTH:
            self._complain(node, path, "an alias that contains itself, or nesting that is too deep")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: KeyPath) -> Value:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _STRING_TAGS:
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "this"
                remedy = "merge keys are not supported" if shown == "<<" else f"write '{shown}' in quotes"
                self._complain(key_node, path, f"a key must be a string: {remedy}")
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in result:
                first = self.keys[inner][0]
                self._complain(key_node, inner, f"duplicate key, first given on line {first}")
                continue
            self.keys[inner] = _place(key_node)
            result[key] = self.read(value_node, inner)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Value:
        text = str(node.value)
        self.raw[path] = text
        if node.tag in _STRING_TAGS:
            return text
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._complain(node, path, f"'{text}' cannot be read as {node.tag.rpartition(':')[2]}; write it in quotes")
            return None
        return value if isinstance(value, str | int | float | bool) or value is None else text

    def _complain(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        line, column = _place(node)
        self.problems.append(Problem(line=line, column=column, path=path, message=message))


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
