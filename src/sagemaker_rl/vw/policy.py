"""Load a policy of Vowpal Wabbit from a model's files, and compute the probabilities of its actions.

The library runs in this process. Its `predict` returns probabilities in the order of actions in every version; the
text output of the program `vw` does not. Examples are created here and not by `predict(text)`, because version 8.7
leaks 27 KB for each text that it parses.
"""

import json
import math
import os
import shlex
import struct

from sagemaker_rl.serving import ModelError
from sagemaker_rl.vw.launcher import METADATA, MODEL, installed, legacy

# Options that write files, read other files, or continue learning.
REFUSED_OPTIONS = (
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
MAX_FLOAT = 3.4e38  # the library has 32-bit floats


def find(folder):
    """Return (model, metadata): the paths of vw.model and vw.metadata, each in `folder` or any folder below it.

    Raises ModelError if one of them is missing.
    """
    decision = {}
    for path, _, names in sorted(os.walk(folder)):
        for name in (MODEL, METADATA):
            if name in names:
                decision.setdefault(name, os.path.join(path, name))
    absent = [name for name in (MODEL, METADATA) if name not in decision]
    if absent:
        raise ModelError("there is no {} in {}".format(" and no ".join(absent), folder))
    return decision[MODEL], decision[METADATA]


def written_by(path):
    """Return the version of VW that wrote the model file `path`, such as (8, 7): the first text in the file.

    Raises ModelError if the file does not begin with a version.
    """
    with open(path, "rb") as stream:
        head = stream.read(64)
    try:
        size = struct.unpack_from("<I", head)[0]
        words = head[4 : 4 + size].split(b"\0")[0].decode("ascii").split(".")
        return int(words[0]), int(words[1])
    except (struct.error, UnicodeDecodeError, ValueError, IndexError):
        raise ModelError("{} is not a model of Vowpal Wabbit".format(path)) from None


def options(text):
    """Return the list of arguments in `text`, a command line of VW, without those that a server must not use.

    Those are REFUSED_OPTIONS with their values, and --save_resume. Raises ModelError if `text` is not a command line.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ModelError("vw.metadata is not a command line: {}".format(error)) from None
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in REFUSED_OPTIONS:
            skip = True
        elif word.split("=")[0] not in REFUSED_OPTIONS and word != "--save_resume":
            kept.append(word)
    return kept


def has(words, option):
    """Return whether `words`, a list of command line arguments, has `option`, with or without `=value`."""
    return option in [word.split("=")[0] for word in words]


def load(folder):
    """Return the policy in `folder`: a Ranking if vw.metadata has --cb_explore_adf, a Choice if it has --cb_explore.

    Raises ModelError if `folder` has no such policy or VW cannot load it.
    """
    path, metadata = find(folder)
    with open(metadata) as stream:
        text = stream.read().strip()
    if text.startswith("{"):
        try:
            facts = json.loads(text)
            words = options(facts.get("cli_args", ""))
        except (ValueError, AttributeError, TypeError) as error:
            raise ModelError("{} is not JSON with cli_args: {}".format(metadata, error)) from None
    else:
        facts, words = {}, options(text)
    if has(words, "--cb_explore_adf"):
        return Ranking(_workspace(path, words), facts)
    if not has(words, "--cb_explore"):
        raise ModelError("{} has neither --cb_explore nor --cb_explore_adf".format(metadata))
    # VW before 8.11 had one way of learning and no option for it, see sagemaker_rl.vw.launcher.legacy.
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
    """Return `values` if it is a non-empty list of numbers that fit in a 32-bit float.

    Raises ValueError for anything else; `what` names the value in the message.
    """
    if not isinstance(values, list) or not values:
        raise ValueError("{} is a list of numbers, not {}".format(what, json.dumps(values)[:80]))
    for place, value in enumerate(values, 1):
        # math.isfinite() raises for integers that do not fit in a float; a comparison does not.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MAX_FLOAT:
            raise ValueError("number {} of {} is {}".format(place, what, json.dumps(value)[:80]))
    return values


def draw(probabilities, generator):
    """Return the index of one of `probabilities`, drawn with them as weights. `generator` is a random.Random."""
    place, remaining = 0, generator.random() * sum(probabilities)
    for place, chance in enumerate(probabilities):  # noqa: B007
        remaining -= chance
        if remaining < 0:
            break
    return place


def _finite(probabilities):
    probabilities = [float(chance) for chance in probabilities]
    if not probabilities or not all(math.isfinite(chance) for chance in probabilities):
        raise RuntimeError("Vowpal Wabbit gave {} as probabilities".format(probabilities))
    return probabilities


class Choice:
    """A policy that chooses one of a fixed number of actions, counted from 1. An observation is a list of numbers.

    `model` is VW's workspace with the model.
    """

    columns = ("action", "action_prob")
    keys = ()

    def __init__(self, model):
        self._model = model
        # The same example is used for all requests: version 8.7 leaks 48 bytes for each example.
        self._example = model.example("|")

    def probabilities(self, observation):
        """Return the list of the probabilities of all actions for `observation`, in the order of actions.

        Raises ValueError if `observation` is not a list of numbers, RuntimeError if VW gives no finite probabilities.
        """
        example = self._example
        if example.setup_done:
            example.unsetup_example()
            example.setup_done = False
        for _ in range(example.num_namespaces()):
            example.pop_namespace()
        # The same features as those of sagemaker_rl.vw.examples.features.
        values = enumerate(numbers(observation, "the observation"), 1)
        example.push_features(" ", [(str(place), float(value)) for place, value in values if value])
        return _finite(self._model.predict(example))

    def decide(self, observation, generator):
        """Return {"action": number, "action_prob": its probability} for `observation`, drawn with `generator`."""
        probabilities = self.probabilities(observation)
        place = draw(probabilities, generator)
        return {"action": place + 1, "action_prob": probabilities[place]}

    def record(self, observation):
        """Return the part of a log record that describes `observation`, a dictionary."""
        return {"observation": observation}


class Ranking:
    """A policy that draws `top_k` different actions, of those that come with a request or of a fixed number.

    Actions count from 0. An observation is an object: `shared_context`, an optional list of numbers; `actions_context`,
    a list of numbers for each action, required unless vw.metadata has `adf_mode` false and the fixed number in
    `num_actions`; `top_k` and `user_id`, both optional. `model` is VW's workspace with the model, `facts` the content
    of vw.metadata.
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
        """Return (first, actions): `observation` in VW's format.

        `first` is the line that all actions share, or None; `actions` is a list with one line for each action. Raises
        ValueError if a member of `observation` is invalid.
        """
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
            action_features = [
                _features(numbers(action, "action {}".format(place)), start) for place, action in enumerate(actions)
            ]
        else:
            action_features = [["a{}".format(place)] for place in range(self._actions)]
        first = "shared |s " + " ".join(words) if words else None
        return first, ["|d " + " ".join(action) for action in action_features]

    def probabilities(self, first, actions):
        """Return the list of the probabilities of `actions`, in their order.

        `first` and `actions` are lines in VW's format as the method `lines` returns them.
        """
        examples = [self._model.example(line) for line in ([first] if first else []) + actions]
        try:
            return _finite(self._model.predict(examples))
        finally:
            self._model.finish_example(examples)

    def decide(self, observation, generator):
        """Return {"actions": numbers, "action_probs": probabilities} for `observation`, drawn with `generator`.

        The actions are drawn one after the other; each probability is that among the actions that remained. Raises
        ValueError for an invalid observation.
        """
        if not isinstance(observation, dict):
            raise ValueError("an observation is an object with {}".format(self.keys[0]))
        first, actions = self.lines(observation)
        top = observation.get("top_k", self._top)
        if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= len(actions):
            raise ValueError("top_k is {}, not from 1 to {}".format(json.dumps(top)[:80], len(actions)))
        places, decision = list(range(len(actions))), {"actions": [], "action_probs": []}
        for _ in range(top):
            probabilities = self.probabilities(first, [actions[place] for place in places])
            drawn = draw(probabilities, generator)
            decision["actions"].append(places.pop(drawn))
            decision["action_probs"].append(probabilities[drawn])
        return decision

    def record(self, observation):
        """Return the part of a log record that describes `observation`, a dictionary."""
        return {name: observation.get(name) for name in ("shared_context", "actions_context", "user_id")}


def _features(values, start):
    return ["{}:{:.12g}".format(place, value) for place, value in enumerate(values, start)]
