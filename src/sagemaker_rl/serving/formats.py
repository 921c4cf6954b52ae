"""The bodies of requests and replies: JSON, JSON lines and CSV. Text in, values out; nothing here knows HTTP."""

import csv
import io
import json
import math

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
KINDS = (JSON, JSON_LINES, CSV)
OTHER_NAMES = {
    "application/jsonl": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    "application/csv": CSV,
}


class FormatError(ValueError):
    """A body is not what its type says: one sentence, with its place."""


class Asked:
    """What a request asks for.

    observations: a list of them, for the model to decide on. one: whether a single one was sent, not a list. named:
    whether the list was called `instances`, and the replies shall be `predictions`. request: instead of observations,
    an object of another `request_type`.
    """

    def __init__(self, observations=(), one=False, named=False, request=None):
        self.observations = list(observations)
        self.one = one
        self.named = named
        self.request = request


def media_type(header):
    """`text/csv` of `text/csv; charset=utf-8`, by the name that KINDS has for it."""
    name = header.partition(";")[0].strip().lower()
    return OTHER_NAMES.get(name, name)


def accepted(header, default):
    """The kind that an Accept header wants most, `default` if any will do; None if it wants none of KINDS."""
    wishes = []
    for place, wish in enumerate(header.split(",")):
        name, _, parameters = wish.partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if name.strip() and quality > 0:
            wishes.append((-quality, place, media_type(name)))
    if not wishes:
        return default
    for _, _, kind in sorted(wishes):
        if kind in KINDS:
            return kind
        if kind == "*/*" or (kind.endswith("/*") and default.startswith(kind[:-1])):
            return default
    return None


def _no_number(word):
    raise FormatError("{} is no number of JSON".format(word))


def _json(text, place=""):
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise FormatError(place + "it is nested too deeply") from None
    except FormatError as error:
        raise FormatError(place + str(error)) from None
    except ValueError as error:
        raise FormatError("{}it is no JSON: {}".format(place, error)) from None


def _observation(value, keys, place=""):
    """The observation in one JSON value: the value itself, or what it calls so."""
    if not isinstance(value, dict):
        return value
    if keys and all(key in value for key in keys):
        return {key: part for key, part in value.items() if key != "request_type"}
    if "observation" in value:
        return value["observation"]
    wanted = "observation" if not keys else "observation, nor {}".format(" and ".join(keys))
    raise FormatError("{}the object has no {}".format(place, wanted))


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
            return Asked(request=value)
        if "instances" in value and "observation" not in value:
            instances = value["instances"]
            if not isinstance(instances, list) or not instances:
                raise FormatError("instances is not a list with an observation")
            return Asked([_observation(one, keys) for one in instances], named=True)
    return Asked([_observation(value, keys)], one=True)


def _decode_lines(text, keys):
    observations = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            place = "line {}: ".format(number)
            observations.append(_observation(_json(line, place), keys, place))
    return Asked(observations)


def _decode_csv(text, keys):
    observations = []
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            if any(word.strip() for word in row):
                observations.append([_cell(word, rows.line_num) for word in row])
    except csv.Error as error:
        raise FormatError("line {}: {}".format(rows.line_num, error)) from None
    return Asked(observations)


def _cell(word, line):
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError("line {}: {!r} is no number".format(line, word[:40]))
    return value


DECODERS = {JSON: _decode_json, JSON_LINES: _decode_lines, CSV: _decode_csv}


def decode(kind, body, keys=()):
    """What a body asks for; `keys` are those of an object that is an observation itself.

    Raises FormatError. A body without observations (empty lines) gives an Asked with neither observations nor request.
    """
    return DECODERS[kind](_text(body), keys)


def encode(kind, texts, asked, columns=()):
    """The body of a reply, from the JSON text of each single reply; `columns` are the keys of a CSV row.

    JSON is one object for one observation, {"predictions": [...]} for `instances`, else a list.
    """
    if kind == JSON_LINES:
        return "\n".join(texts) + "\n"
    if kind == CSV:
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        for text in texts:
            reply = json.loads(text)
            writer.writerow([_word(reply.get(column)) for column in columns])
        return rows.getvalue()
    if asked.one or asked.request is not None:
        return texts[0]
    together = "[" + ", ".join(texts) + "]"
    return '{"predictions": ' + together + "}" if asked.named else together


def _word(value):
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
