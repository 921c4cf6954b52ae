"""Read YAML and keep the line and column of every key and value, for error messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from rlimages.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""The keys and list indexes from the top of a document to a value; empty for the document itself."""
Value = Any
"""The content of a document: nested dicts with string keys, lists and scalars."""
# PyYAML may have been built without the faster loader in C
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")  # dates are kept as they are written
_MAX_DEPTH = 64
"""Levels of nesting that are allowed, far more than any of our files has.

Without a limit a malicious file could exhaust the stack.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One mistake in a YAML file, with its position."""

    line: int
    """Line of the mistake, counted from 1."""
    column: int
    """Column of the mistake, counted from 1, as editors do."""
    path: KeyPath
    """Path of the key or value with the mistake."""
    message: str
    """The mistake in words, without file name and position."""

    def render(self, name: str) -> str:
        """Return the problem as one line for people: `file:line:column: path: message`.

        `name` is the name of the file.
        """
        where = format_path(self.path)
        text = f"{where}: {self.message}" if where else self.message
        return f"{name}:{self.line}:{self.column}: {_printable(text)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A YAML document and the line and column of every key and value in it."""

    value: Value
    values: Mapping[KeyPath, tuple[int, int]] = field(repr=False)
    """Path -> line and column where its value begins, counted from 1."""
    keys: Mapping[KeyPath, tuple[int, int]] = field(repr=False)
    """Path -> line and column where its key begins, counted from 1. List items have no key."""
    raw: Mapping[KeyPath, str] = field(repr=False)
    """Path -> scalar as it is written in the file: `1.10`, which YAML reads as the number 1.1."""

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """Return a `Problem` with `message` at the position of the value at `path`, or of its key if `at_key` is True.

        If the document has nothing at `path`, the position is that of the nearest parent that exists.
        """
        position: tuple[int, int] | None = self.keys.get(path) if at_key else None
        known = path
        while position is None:
            position = self.values.get(known)
            if not known:
                break
            known = known[:-1]
        line, column = position or (1, 1)
        return Problem(line=line, column=column, path=path, message=message)


def config_error(name: str, problems: list[Problem]) -> ConfigError:
    """Return one error, to be raised, whose text has a line for each problem, in the order of the file `name`."""
    ordered = sorted(set(problems), key=lambda p: (p.line, p.column, p.message))
    return ConfigError("\n".join(problem.render(name) for problem in ordered))


def _printable(text: str) -> str:
    """Return `text` with control characters escaped, so that a malicious file can't send them to the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_path(path: KeyPath) -> str:
    """Return `path` as messages show it: `toolkits.ray['1.6.0'].images[0]`; an empty string for the whole document."""
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
    """Return the YAML document in `text`, with the position of every key and value.

    Raise `ConfigError` for a syntax error; or else with all duplicate keys, keys that are not strings, unreadable
    scalars and nesting that is too deep. `name` is the file's name in these messages.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = " ".join(filter(None, [error.context, error.problem])) or "not YAML"
        raise ConfigError(f"{name}:{line}:{column}: {_printable(reason)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{name}:1:1: this is not YAML: {_printable(reason)}") from None
    reader = _NodeReader()
    value = reader.read(node, ()) if node is not None else None
    if reader.problems:
        raise config_error(name, reader.problems)
    return Document(value=value, values=reader.values, keys=reader.keys, raw=reader.raw)


class _NodeReader:
    """A converter from the nodes of one YAML document to values. It collects positions and mistakes on the way."""

    def __init__(self) -> None:
        """Begin with no positions and no mistakes; `read` adds them."""
        self.values: dict[KeyPath, tuple[int, int]] = {}
        self.keys: dict[KeyPath, tuple[int, int]] = {}
        self.raw: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        """Ids of the nodes that are being read: an alias to one of them is a cycle."""

    def read(self, node: yaml.Node, path: KeyPath) -> Value:
        """Return the value of `node`, which is at `path`; None, with a problem recorded, if it has a mistake."""
        self.values[path] = _position(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open or len(path) > _MAX_DEPTH:
            self._report(node, path, "an alias that contains itself, or nesting that is too deep")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: KeyPath) -> Value:
        """Return the mapping at `path` as a dict.

        Duplicate keys and keys that are not strings are recorded and left out.
        """
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _STRING_TAGS:
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "this"
                remedy = "merge keys are not supported" if shown == "<<" else f"write '{shown}' in quotes"
                self._report(key_node, path, f"a key must be a string: {remedy}")
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in result:
                first = self.keys[inner][0]
                self._report(key_node, inner, f"duplicate key, first given on line {first}")
                continue
            self.keys[inner] = _position(key_node)
            result[key] = self.read(value_node, inner)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Value:
        """Return the scalar at `path` as a string, number, boolean or None. Dates stay strings."""
        text = str(node.value)
        self.raw[path] = text
        if node.tag in _STRING_TAGS:
            return text
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._report(node, path, f"'{text}' cannot be read as {node.tag.rpartition(':')[2]}; write it in quotes")
            return None
        return value if isinstance(value, str | int | float | bool) or value is None else text

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        """Record a mistake at the position of `node`."""
        line, column = _position(node)
        self.problems.append(Problem(line=line, column=column, path=path, message=message))


def _position(node: yaml.Node) -> tuple[int, int]:
    """Return the line and column where `node` begins, counted from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1
