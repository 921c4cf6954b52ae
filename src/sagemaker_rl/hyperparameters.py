"""Hyperparameters that begin with `rl.`: each names one setting by a dotted path, and is put there.

rl.training.config.lr = 0.0001                    in a dictionary of dictionaries (Ray)
rl.agent_params.algorithm.discount = 0.9          in an object with attributes (Coach)
rl.training.config.lr:float = 1                   with the type to read the value as
rl.training.config.model.fcnet_hiddens.0 = 64     one member of a list
"""

import difflib
import json

PREFIX = "rl."
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


class HyperparameterError(Exception):
    """A hyperparameter names a setting that does not exist, or has a value that its type cannot be."""


def _boolean(value):
    word = str(value).lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("{!r} is neither true nor false".format(value))


def _json(value):
    return json.loads(value) if isinstance(value, str) else value


TYPES = {"int": int, "float": float, "str": str, "bool": _boolean, "json": _json}


def typed(value):
    """A value as it was meant: SageMaker hands on text, and a tuning job has nothing else."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def overrides(hyperparameters, types=None):
    """The settings that the hyperparameters name: a list of (name, path, value), by name.

    `types` adds to TYPES, name to function. Raises HyperparameterError on an unknown type or a value that is none.
    """
    known = dict(TYPES, **(types or {}))
    found = []
    for name in sorted(hyperparameters):
        if not name.startswith(PREFIX):
            continue
        path, colon, kind = name[len(PREFIX) :].partition(":")
        value = hyperparameters[name]
        if not colon:
            value = typed(value)
        elif kind not in known:
            raise HyperparameterError("{}: {!r} is no type; known are {}".format(name, kind, ", ".join(sorted(known))))
        else:
            try:
                value = known[kind](value)
            except (TypeError, ValueError) as error:
                raise HyperparameterError("{}: {!r} is no {}: {}".format(name, value, kind, error)) from error
        found.append((name, path.split("."), value))
    return found


def meant(word, words):
    """`; did you mean 'x'?` for the nearest of the words, or nothing."""
    near = difflib.get_close_matches(word, [known for known in words if isinstance(known, str)], 1)
    return "; did you mean {!r}?".format(near[0]) if near else ""


def _index(name, found, word):
    if not word.isdigit() or int(word) >= len(found):
        raise HyperparameterError("{}: {!r} is no place in a list of {}".format(name, word, len(found)))
    return int(word)


def _step(name, found, word):
    """The setting called `word` in `found`; in a dictionary one is made where there is none."""
    if isinstance(found, dict):
        if found.get(word) is None:
            found[word] = {}
        return found[word]
    if isinstance(found, (list, tuple)):
        return found[_index(name, found, word)]
    if not hasattr(found, word):
        raise HyperparameterError(
            "{}: {} has no {!r}{}".format(name, type(found).__name__, word, meant(word, vars(found)))
        )
    return getattr(found, word)


def put(root, name, path, value):
    """Set what `path` leads to. A dictionary takes new names, an object or a list does not."""
    found = root
    for word in path[:-1]:
        found = _step(name, found, word)
        if not isinstance(found, (dict, list, tuple)) and not hasattr(found, "__dict__"):
            raise HyperparameterError("{}: {!r} is {!r}, which has no settings of its own".format(name, word, found))
    last = path[-1]
    if isinstance(found, dict):
        found[last] = value
    elif isinstance(found, list):
        found[_index(name, found, last)] = value
    elif isinstance(found, tuple):
        raise HyperparameterError("{}: it stands in a tuple, which cannot be changed".format(name))
    else:
        _step(name, found, last)
        setattr(found, last, value)
