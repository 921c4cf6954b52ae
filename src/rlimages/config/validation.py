"""Validate a YAML document against a pydantic model, and report each mistake as one sentence with its position."""

import re
from typing import TYPE_CHECKING, Any, TypeVar

from rlimages.config.yaml import Document, KeyPath, Problem, config_error
from rlimages.errors import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")


def validate_document(document: Document, name: str, schema: type[Model]) -> Model:
    """Return the values of `document` as an instance of the pydantic model `schema`.

    Raise `ConfigError` with all mistakes, each on a line of its own, if the document breaks the schema. `name` is the
    file's name in these messages.
    """
    from pydantic import ValidationError

    try:
        return schema.model_validate(document.value)
    except ValidationError as error:
        raise config_error(name, [_problem(document, details, schema) for details in error.errors()]) from None


def _problem(document: Document, details: Any, schema: Any) -> Problem:
    """Return the position and a message for one of pydantic's errors, in words for people who write the file.

    `details` is an item of `ValidationError.errors()`. `schema` is the model of the whole document.
    """
    # pydantic ends the path of a mistake in a mapping's key with "[key]", which is not part of the document
    path: KeyPath = tuple(part for part in details["loc"] if part != "[key]")
    kind, context = details["type"], details.get("ctx", {})
    written = document.raw.get(path)
    shown = f"'{written}'" if written is not None else "this"
    at_key = details["loc"][-1:] == ("[key]",) or kind == "extra_forbidden"
    match kind:
        case "extra_forbidden":
            message = "unknown key" + did_you_mean(str(path[-1]), _known_keys(schema, path[:-1]))
        case "missing":
            message = f"the key '{path[-1]}' is missing"
            path = path[:-1]
        case "string_type" if written is not None and not isinstance(_value_at(document.value, path), list | dict):
            message = f'{shown} must be a string: write "{written}" in quotes'
        case "string_type":
            message = "this must be a string"
        case "string_pattern_mismatch":
            message = f"'{details['input']}' is not of the form {context['pattern']}"
        case "enum" | "literal_error":
            allowed = re.findall(r"'([^']*)'", str(context["expected"])) or [str(context["expected"])]
            subject = str(path[-1]) if at_key else str(details["input"])
            message = f"'{subject}' is not one of {', '.join(allowed)}" + did_you_mean(subject, allowed)
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"this must be a mapping of keys to values, not {shown}"
        case "list_type":
            message = f"this must be a list, not {shown}" if written is not None else "this must be a list"
        case _:
            message = details["msg"][0].lower() + details["msg"][1:]
    return document.problem(path, message, at_key=at_key)


def _known_keys(schema: Any, path: KeyPath) -> list[str]:
    """Return the keys that the model `schema` allows in the mapping at `path`; an empty list if it allows any key."""
    model = schema
    for part in path:
        if isinstance(part, str) and hasattr(model, "model_fields") and part in model.model_fields:
            model = _innermost_model(model.model_fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _innermost_model(annotation: Any) -> Any:
    """Return the model inside an annotation: `RawImage` for `dict[Name, list[RawImage]] | None`.

    Return the innermost type if the annotation contains no model.
    """
    while not hasattr(annotation, "model_fields"):
        inner = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
        if not inner:
            return annotation
        annotation = inner[-1]
    return annotation


def _value_at(value: Any, path: KeyPath) -> Any:
    """Return the value at `path` below the nested `value`, or None if the path does not exist."""
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
