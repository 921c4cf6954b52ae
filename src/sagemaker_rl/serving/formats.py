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
    """A request body that does not have the format of its type. The message is one sentence, with the line if known."""


class Request:
    """The content of a request body.

    observations: the observations to decide on. single: whether a single observation was sent, and not a list.
    instances: whether the list was sent as `instances`, so that the replies are returned as `predictions`. request: an
    object whose `request_type` is not `observation`, or None; there are no observations then.
    """

    def __init__(self, observations=(), single=False, instances=False, request=None):
        self.observations = list(observations)
        self.single = single
        self.instances = instances
        self.request = request


def media_type(header):
    """Return the media type in `header`, a Content-Type or one choice of Accept, in lower case and without parameters.

    An alias in ALIASES is returned as the type in TYPES that it stands for.
    """
    name = header.partition(";")[0].strip().lower()
    return ALIASES.get(name, name)


def negotiate(header, default):
    """Return the type in TYPES that `header`, the text of an Accept header, prefers.

    Returns `default` if the header is empty or accepts any type, and None if it accepts none in TYPES.
    """
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
    """Return the observation in the JSON value `value`: the value itself, or the member `observation` of an object.

    An object with all of `keys` is an observation itself, without its `request_type`. Raises FormatError, whose message
    begins with `place`, for any other object.
    """
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
    """Return the Request in `body`, the bytes of a request body. `kind` is its type, one of TYPES.

    A JSON object with all of `keys` is an observation itself. Raises FormatError if the body is not of that type. A
    body of empty lines gives a Request without observations.
    """
    return DECODERS[kind](_text(body), keys)


def encode(kind, texts, request, columns=()):
    """Return the body of a reply as text of the type `kind`, one of TYPES. `texts` are the single replies in JSON.

    `columns` are the keys of a reply that become the values of a CSV row. As JSON, the body is one object for a single
    observation or another kind of `request`, {"predictions": [...]} for `instances`, else a list.
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
