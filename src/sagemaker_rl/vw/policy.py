"""The policies of Vowpal Wabbit that are served: what a model's files say, and the probabilities of its actions.

The library is asked in this process: its `predict` gives a list in the order of actions in every version, and the
text of the program `vw` does not. Its examples are made here, not by `predict(text)`: of each text that it reads,
version 8.7 keeps 27 KB.
"""

import json
import math
import os
import shlex
import struct

from sagemaker_rl.serving import ModelError
from sagemaker_rl.vw.launcher import METADATA, MODEL, installed, legacy

# Options that would write files, read others, or learn on.
UNWANTED = (
    "-f",
    "--final_regressor",
    "-i",
    "--initial_regressor",
    "-p",
    "--predictions",
    "-d",
    "--data",
    "--cache_file",
)
LARGEST = 3.4e38  # of a float of the library


def find(folder):
    """The paths of vw.model and vw.metadata, which may lie in a folder of the archive. Raises ModelError."""
    found = {}
    for path, _, names in sorted(os.walk(folder)):
        for name in (MODEL, METADATA):
            if name in names:
                found.setdefault(name, os.path.join(path, name))
    absent = [name for name in (MODEL, METADATA) if name not in found]
    if absent:
        raise ModelError("there is no {} in {}".format(" and no ".join(absent), folder))
    return found[MODEL], found[METADATA]


def written_by(path):
    """The version of VW that wrote a model, the first word in it: (8, 7). Raises ModelError if none is there."""
    with open(path, "rb") as stream:
        head = stream.read(64)
    try:
        size = struct.unpack_from("<I", head)[0]
        words = head[4 : 4 + size].split(b"\0")[0].decode("ascii").split(".")
        return int(words[0]), int(words[1])
    except (struct.error, UnicodeDecodeError, ValueError, IndexError):
        raise ModelError("{} is no model of Vowpal Wabbit".format(path)) from None


def options(text):
    """The options of a command line, without what has no place in a server. Raises ModelError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ModelError("vw.metadata is no command line: {}".format(error)) from None
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in UNWANTED:
            skip = True
        elif word.split("=")[0] not in UNWANTED and word != "--save_resume":
            kept.append(word)
    return kept


def has(words, option):
    """Whether an option is among the words of a command line."""
    return option in [word.split("=")[0] for word in words]


def load(folder):
    """The policy of a folder. Raises ModelError."""
    path, metadata = find(folder)
    with open(metadata) as stream:
        text = stream.read().strip()
    if text.startswith("{"):
        try:
            facts = json.loads(text)
            words = options(facts.get("cli_args", ""))
        except (ValueError, AttributeError, TypeError) as error:
            raise ModelError("{} is no JSON with cli_args: {}".format(metadata, error)) from None
    else:
        facts, words = {}, options(text)
    if has(words, "--cb_explore_adf"):
        return Ranking(_workspace(path, words), facts)
    if not has(words, "--cb_explore"):
        raise ModelError("{} has neither --cb_explore nor --cb_explore_adf".format(metadata))
    # A model from before 8.11 has learned the former way, whatever its options say.
    if legacy(installed()) and not has(words, "--cb_force_legacy") and written_by(path) < (8, 11):
        words.append(legacy(installed()))
    return Choice(_workspace(path, words))


def _workspace(path, words):
    from vowpalwabbit import pyvw

    words = [shlex.quote(word) for word in words + ["-i", path, "--testonly", "--quiet"]]
    workspace = getattr(pyvw, "Workspace", None) or pyvw.vw
    try:
        return workspace(" ".join(words))
    except Exception as error:  # noqa: BLE001
        raise ModelError("{} cannot be loaded: {}".format(path, " ".join(str(error).split()))) from None


def numbers(values, what):
    """`values`, if it is a list of numbers that the library can hold. Raises ValueError."""
    if not isinstance(values, list) or not values:
        raise ValueError("{} is a list of numbers, not {}".format(what, json.dumps(values)[:80]))
    for place, value in enumerate(values, 1):
        # Compared, not asked whether it is finite: an integer may be too large for a float.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
            raise ValueError("number {} of {} is {}".format(place, what, json.dumps(value)[:80]))
    return values


def draw(chances, dice):
    """The place of one of the probabilities, by chance."""
    place, left = 0, dice.random() * sum(chances)
    for place, chance in enumerate(chances):  # noqa: B007
        left -= chance
        if left < 0:
            break
    return place


def _finite(chances):
    chances = [float(chance) for chance in chances]
    if not chances or not all(math.isfinite(chance) for chance in chances):
        raise RuntimeError("Vowpal Wabbit gave {} as probabilities".format(chances))
    return chances


class Choice:
    """One of a fixed number of actions, which count from 1, for an observation: a list of numbers."""

    columns = ("action", "action_prob")
    keys = ()

    def __init__(self, model):
        self._model = model
        # One for all questions: version 8.7 keeps 48 bytes of each example that it predicted.
        self._example = model.example("|")

    def probabilities(self, observation):
        """The probability of each action, in their order. Raises ValueError for what is no list of numbers."""
        example = self._example
        if example.setup_done:
            example.unsetup_example()
            example.setup_done = False
        for _ in range(example.num_namespaces()):
            example.pop_namespace()
        # As vw_examples.features writes it.
        values = enumerate(numbers(observation, "the observation"), 1)
        example.push_features(" ", [(str(place), float(value)) for place, value in values if value])
        return _finite(self._model.predict(example))

    def decide(self, observation, dice):
        """What was drawn, and by which probability."""
        chances = self.probabilities(observation)
        place = draw(chances, dice)
        return {"action": place + 1, "action_prob": chances[place]}

    def record(self, observation):
        """What a log says of an observation."""
        return {"observation": observation}


class Ranking:
    """The `top_k` best of actions that come with each question, which count from 0, or of a fixed number of them.

    An observation is an object: shared_context, a list of numbers, may be absent; actions_context, such a list for each
    action, must be there unless vw.metadata says num_actions; top_k and user_id may be there.
    """

    columns = ("actions", "action_probs")

    def __init__(self, model, facts):
        self._model = model
        self._top, self._actions = facts.get("top_k") or 1, facts.get("num_actions")
        self._given = facts.get("adf_mode", True)
        if not self._given and not isinstance(self._actions, int):
            raise ModelError("vw.metadata has adf_mode false, but no num_actions")
        self.keys = ("actions_context",) if self._given else ("shared_context",)

    def lines(self, observation):
        """The words of an observation for the library: the shared line or None, and a line for each action."""
        shared = observation.get("shared_context")
        words = [] if shared is None else _features(numbers(shared, "shared_context"), 1)
        start = len(words) + 1
        user = observation.get("user_id")
        if user is not None:
            if isinstance(user, bool) or not isinstance(user, (int, str)) or set(str(user)) & set(" :|\r\n\t"):
                raise ValueError("user_id is {}, not a number or one word".format(json.dumps(user)[:80]))
            words.append("user_{}".format(user))
        if self._given:
            actions = observation.get("actions_context")
            if not isinstance(actions, list) or not actions:
                raise ValueError("actions_context is a list of lists of numbers, one for each action")
            every = [
                _features(numbers(action, "action {}".format(place)), start) for place, action in enumerate(actions)
            ]
        else:
            every = [["a{}".format(place)] for place in range(self._actions)]
        first = "shared |s " + " ".join(words) if words else None
        return first, ["|d " + " ".join(action) for action in every]

    def probabilities(self, first, actions):
        """The probability of each action, in their order."""
        examples = [self._model.example(line) for line in ([first] if first else []) + actions]
        try:
            return _finite(self._model.predict(examples))
        finally:
            self._model.finish_example(examples)

    def decide(self, observation, dice):
        """What was drawn, one after the other, and by which probabilities among those that were left."""
        if not isinstance(observation, dict):
            raise ValueError("an observation is an object with {}".format(self.keys[0]))
        first, actions = self.lines(observation)
        top = observation.get("top_k", self._top)
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(actions):
            raise ValueError("top_k is {}, not from 1 to {}".format(json.dumps(top)[:80], len(actions)))
        places, found = list(range(len(actions))), {"actions": [], "action_probs": []}
        for _ in range(top):
            chances = self.probabilities(first, [actions[place] for place in places])
            drawn = draw(chances, dice)
            found["actions"].append(places.pop(drawn))
            found["action_probs"].append(chances[drawn])
        return found

    def record(self, observation):
        """What a log says of an observation."""
        return {name: observation.get(name) for name in ("shared_context", "actions_context", "user_id")}


def _features(values, start):
    return ["{}:{:.12g}".format(place, value) for place, value in enumerate(values, start)]
