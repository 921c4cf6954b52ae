"""Read logged decisions and their rewards from CSV, JSON lines or VW's own format, as examples for Vowpal Wabbit.

    observation,action,action_prob,reward
    "[0.1, 2.0]",3,0.25,1.0

Actions count from 1, as in VW. The cost of an action is 1 - reward. This module imports no toolkit.
"""

import csv
import io
import json
import os

COLUMNS = ("observation", "action", "action_prob", "reward")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".jsonlines": "jsonl", ".json": "jsonl", ".vw": "vw", ".txt": "vw"}


class ExamplesError(Exception):
    """A training file has missing or invalid values. The message begins with the file and, if known, the line."""


def features(observation):
    """Return `observation`, a list of numbers, as text in VW's format: `| 1:0.1 2:2`.

    Zeros are left out, as they have no effect. Features count from 1. The server names the features of an observation
    in the same way.
    """
    words = ["{}:{:.12g}".format(place, value) for place, value in enumerate(observation, 1) if value]
    return " ".join(["|"] + words)


def example(observation, action=None, cost=None, probability=None):
    """Return one line of VW's contextual bandit format: a logged decision on `observation`, a list of numbers.

    The decision is `action`, counted from 1, with its `cost` and the `probability` with which it was chosen. Without
    `action`, returns the line that asks VW for a decision.
    """
    if action is None:
        return features(observation)
    return "{}:{:.12g}:{:.12g} {}".format(action, cost, probability, features(observation))


def _row(row, place, actions):
    absent = [name for name in COLUMNS if row.get(name) in (None, "")]
    if absent:
        raise ExamplesError("{}: no {}".format(place, ", ".join(absent)))
    try:
        observation = row["observation"]
        if isinstance(observation, str):
            observation = json.loads(observation)
        observation = [float(value) for value in observation]
        action, probability, reward = int(float(row["action"])), float(row["action_prob"]), float(row["reward"])
    except (TypeError, ValueError) as error:
        raise ExamplesError("{}: {}".format(place, error)) from error
    if not 1 <= action <= (actions or action):
        raise ExamplesError("{}: action {} is not one of 1 to {}".format(place, action, actions or "..."))
    if not 0 < probability <= 1:
        raise ExamplesError("{}: action_prob {} is not a probability above 0".format(place, probability))
    return example(observation, action, 1 - reward, probability)


def from_csv(stream, name="CSV", actions=None):
    """Yield one line in VW's format for each row of `stream`, a CSV file with a header that has the names in COLUMNS.

    `name` is the file in messages. `actions` is the number of actions, or None to accept any. Raises ExamplesError if a
    column is missing or a value is invalid.
    """
    rows = csv.DictReader(stream)
    absent = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if absent:
        raise ExamplesError("{}:1: no column {}; needed are {}".format(name, ", ".join(absent), ", ".join(COLUMNS)))
    for row in rows:
        yield _row(row, "{}:{}".format(name, rows.line_num), actions)


def from_json_lines(stream, name="JSON lines", actions=None):
    """Yield one line in VW's format for each line of `stream` with a JSON object, whose keys are the names in COLUMNS.

    `name` is the file in messages. `actions` is the number of actions, or None to accept any. Raises ExamplesError for
    a line that is no object, and for a value that is missing or invalid.
    """
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        place = "{}:{}".format(name, number)
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ExamplesError("{}: {}".format(place, error)) from error
        if not isinstance(row, dict):
            raise ExamplesError("{}: not an object with {}".format(place, ", ".join(COLUMNS)))
        yield _row(row, place, actions)


def from_vw(stream, name="VW", actions=None):
    """Yield the lines of `stream`, a file in VW's own format, unchanged and without empty ones.

    `name` and `actions` have no effect: the other readers of READERS need them.
    """
    for line in stream:
        if line.strip():
            yield line.rstrip("\r\n")


READERS = {"csv": from_csv, "jsonl": from_json_lines, "vw": from_vw}


def read(path, actions=None):
    """Yield one line in VW's format for each example of the file `path`, or of all files of the folder `path` by name.

    The suffix of a file decides its format. `actions` is the number of actions, or None to accept any. Raises
    ExamplesError for an empty folder, an unknown suffix or an invalid file.
    """
    if os.path.isdir(path):
        files = sorted(name for name in os.listdir(path) if not name.startswith("."))
        if not files:
            raise ExamplesError("{}: no files".format(path))
        for name in files:
            for line in read(os.path.join(path, name), actions):
                yield line
        return
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ExamplesError("{}: the suffix is none of {}".format(path, ", ".join(sorted(SUFFIXES))))
    with io.open(path, newline="" if SUFFIXES[suffix] == "csv" else None) as stream:
        for line in READERS[SUFFIXES[suffix]](stream, os.path.basename(path), actions):
            yield line
