"""Apply hyperparameters whose names begin with `rl.` to a training configuration. Each name is the path of one setting.

rl.training.config.lr = 0.0001                    in a dictionary of dictionaries (Ray)
rl.agent_params.algorithm.discount = 0.9          in an object with attributes (Coach)
rl.training.config.lr:float = 1                   with the type to read the value as
rl.training.config.model.fcnet_hiddens.0 = 64     one item of a list
"""

import difflib
import json

PREFIX = "rl."
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


class HyperparameterError(Exception):
    """A hyperparameter names a setting that does not exist, or its value does not have the given type."""


def _boolean(value):
    word = str(value).lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("{!r} is neither true nor false".format(value))


def _json(value):
    return json.loads(value) if isinstance(value, str) else value


TYPES = {"int": int, "float": float, "str": str, "bool": _boolean, "json": _json}


def parse_value(value):
    """Return `value` parsed as JSON if it is such text: `"0.1"` becomes 0.1. Other values are returned unchanged.

    SageMaker passes all values as text; a tuning job has no other way to give a number.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def overrides(hyperparameters, types=None):
    """Return the settings that names in `hyperparameters` give: a list of (name, path, value), sorted by name.

    Only names that begin with `rl.` count. `path` is the list of words between the dots after `rl.`. `types` adds to
    TYPES: a dictionary from type name to the function that converts a value. Raises HyperparameterError for an unknown
    type, and for a value that cannot be converted.
    """
    converters = dict(TYPES, **(types or {}))
    settings = []
    for name in sorted(hyperparameters):
        if not name.startswith(PREFIX):
            continue
        path, colon, kind = name[len(PREFIX) :].partition(":")
        value = hyperparameters[name]
        if not colon:
            value = parse_value(value)
        elif kind not in converters:
            raise HyperparameterError(
                "{}: unknown type {!r}; known types are {}".format(name, kind, ", ".join(sorted(converters)))
            )
        else:
            try:
                value = converters[kind](value)
            except (TypeError, ValueError) as error:
                raise HyperparameterError(
                    "{}: {!r} cannot be read as {}: {}".format(name, value, kind, error)
                ) from error
        settings.append((name, path.split("."), value))
    return settings


def suggestion(word, words):
    """Return `; did you mean 'x'?` with the text in `words` most similar to `word`, or an empty string if none is."""
    matches = difflib.get_close_matches(word, [known for known in words if isinstance(known, str)], 1)
    return "; did you mean {!r}?".format(matches[0]) if matches else ""


def _index(name, container, word):
    if not word.isdigit() or int(word) >= len(container):
        raise HyperparameterError("{}: {!r} is not an index in a list of {}".format(name, word, len(container)))
    return int(word)


def _step(name, container, word):
    """Return the setting `word` of `container`: one step along the path of the hyperparameter `name`.

    In a dictionary, a missing setting is created as an empty dictionary. In a list or an object, it raises
    HyperparameterError.
    """
    if isinstance(container, dict):
        if container.get(word) is None:
            container[word] = {}
        return container[word]
    if isinstance(container, (list, tuple)):
        return container[_index(name, container, word)]
    if not hasattr(container, word):
        raise HyperparameterError(
            "{}: {} has no {!r}{}".format(name, type(container).__name__, word, suggestion(word, vars(container)))
        )
    return getattr(container, word)


def set_value(root, name, path, value):
    """Set the setting at `path` to `value`. `path` is a list of names and indexes that starts at the container `root`.

    A dictionary accepts new names; an object or a list does not. Raises HyperparameterError, whose message begins with
    `name`, if `path` leads to no setting.
    """
    container = root
    for word in path[:-1]:
        container = _step(name, container, word)
        if not isinstance(container, (dict, list, tuple)) and not hasattr(container, "__dict__"):
            raise HyperparameterError(
                "{}: {!r} is {!r}, which has no settings of its own".format(name, word, container)
            )
    last = path[-1]
    if isinstance(container, dict):
        container[last] = value
    elif isinstance(container, list):
        container[_index(name, container, last)] = value
    elif isinstance(container, tuple):
        raise HyperparameterError("{}: the setting is in a tuple, which cannot be changed".format(name))
    else:
        _step(name, container, last)
        setattr(container, last, value)
