"""Parse request bodies and write reply bodies: JSON, JSON lines and CSV. This module knows nothing of HTTP."""

import csv
import io
import json
import math

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
TYPES = (JSON, JSON_LINES, CSV)
ALIASES = {
    "application/jsonl": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    "application/csv": CSV,
}


class FormatError(ValueError):
    """A body does not have the format of its type. The message is one sentence with the line, if there is one."""


class Request:
    """The content of a request.

    observations: the observations to decide on. single: whether a single one was sent, and not a list. instances:
    whether the list was sent as `instances`, so that the replies are returned as `predictions`. request: an object of
    another `request_type`, instead of observations.
    """

    def __init__(self, observations=(), single=False, instances=False, request=None):
        self.observations = list(observations)
        self.single = single
        self.instances = instances
        self.request = request


def media_type(header):
    """Return the type of a Content-Type header without parameters, as one of TYPES if it is an alias of one."""
    name = header.partition(";")[0].strip().lower()
    return ALIASES.get(name, name)


def negotiate(header, default):
    """Return the type of TYPES that an Accept header prefers, `default` if it accepts any, None if it accepts none."""
    choices = []
    for place, choice in enumerate(header.split(",")):
        name, _, parameters = choice.partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if name.strip() and quality > 0:
            choices.append((-quality, place, media_type(name)))
    if not choices:
        return default
    for _, _, kind in sorted(choices):
        if kind in TYPES:
            return kind
        if kind == "*/*" or (kind.endswith("/*") and default.startswith(kind[:-1])):
            return default
    return None


def _reject_constant(word):
    raise FormatError("{} is not a JSON number".format(word))


def _json(text, place=""):
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise FormatError(place + "the JSON is nested too deeply") from None
    except FormatError as error:
        raise FormatError(place + str(error)) from None
    except ValueError as error:
        raise FormatError("{}invalid JSON: {}".format(place, error)) from None


def _observation(value, keys, place=""):
    """Return the observation in a JSON value: the value itself, or the member `observation` of an object."""
    if not isinstance(value, dict):
        return value
    if keys and all(key in value for key in keys):
        return {key: part for key, part in value.items() if key != "request_type"}
    if "observation" in value:
        return value["observation"]
    required = "observation" if not keys else "observation, nor {}".format(" and ".join(keys))
    raise FormatError("{}the object has no {}".format(place, required))


def _text(body):
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("the body is not UTF-8: {} at byte {}".format(error.reason, error.start)) from None


def _decode_json(text, keys):
    value = _json(text)
    if isinstance(value, dict):
        kind = value.get("request_type", "observation")
        if not isinstance(kind, str):
            raise FormatError("request_type is {}, not text".format(json.dumps(kind)))
        if kind.lower() != "observation":
            return Request(request=value)
        if "instances" in value and "observation" not in value:
            instances = value["instances"]
            if not isinstance(instances, list) or not instances:
                raise FormatError("instances is not a non-empty list")
            return Request([_observation(instance, keys) for instance in instances], instances=True)
    return Request([_observation(value, keys)], single=True)


def _decode_lines(text, keys):
    observations = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = "line {}: ".format(number)
            observations.append(_observation(_json(line, place), keys, place))
    return Request(observations)


def _decode_csv(text, keys):
    observations = []
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            if any(word.strip() for word in row):
                observations.append([_cell(word, rows.line_num) for word in row])
    except csv.Error as error:
        raise FormatError("line {}: {}".format(rows.line_num, error)) from None
    return Request(observations)


def _cell(word, line):
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError("line {}: {!r} is not a number".format(line, word[:40]))
    return value


DECODERS = {JSON: _decode_json, JSON_LINES: _decode_lines, CSV: _decode_csv}


def decode(kind, body, keys=()):
    """Return the Request in a body of the given type. `keys` are those of an object that is an observation itself.

    Raises FormatError. A body of empty lines gives a Request without observations.
    """
    return DECODERS[kind](_text(body), keys)


def encode(kind, texts, request, columns=()):
    """Return the body of a reply, made from the JSON text of each single reply. `columns` are the keys of a CSV row.

    As JSON it is one object for a single observation, {"predictions": [...]} for `instances`, else a list.
    """
    if kind == JSON_LINES:
        return "\n".join(texts) + "\n"
    if kind == CSV:
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        for text in texts:
            reply = json.loads(text)
            writer.writerow([_csv_value(reply.get(column)) for column in columns])
        return rows.getvalue()
    if request.single or request.request is not None:
        return texts[0]
    array = "[" + ", ".join(texts) + "]"
    return '{"predictions": ' + array + "}" if request.instances else array


def _csv_value(value):
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
