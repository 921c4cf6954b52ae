"""Serve the MXNet network that sagemaker_rl.coach.export writes, with Coach's filters.

Decisions are those of Coach's evaluation: the most probable or most valuable action, or the mean of a continuous one.
The statistics that normalize observations stay as they were at the end of the training. Coach itself would go on
updating them.
"""

import json
import os
import pickle

import numpy

from sagemaker_rl import spaces
from sagemaker_rl.coach import export as coach_export
from sagemaker_rl.serving import ModelError


class Model:
    """An agent that sagemaker_rl.coach.export wrote to `folder`.

    It has the interface that sagemaker_rl.serving describes. Creating it raises ModelError if `folder` has no such
    agent or the agent cannot be loaded.
    """

    workers = 1  # each worker has its own copy of Coach and MXNet in memory, about 200 MB

    def __init__(self, folder):
        description_path = os.path.join(folder, coach_export.DESCRIPTION)
        if not os.path.exists(description_path):
            raise ModelError(
                "{} is missing: the launcher writes it for one agent on MXNet, with the hyperparameter save_model=1; "
                "SavedModels of TensorFlow are for TensorFlow Serving".format(description_path)
            )
        try:
            with open(description_path) as stream:
                self._description = json.load(stream)
            with open(os.path.join(folder, coach_export.FILTERS), "rb") as stream:
                self._filters = pickle.load(stream)
            self._network = _network(os.path.join(folder, coach_export.NETWORK))
        except Exception as error:
            reason = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
            raise ModelError("the network in {} cannot be loaded: {}".format(folder, reason)) from error
        self._inputs = self._description["inputs"]
        # JSON objects with these keys are observations, see sagemaker_rl.serving.
        self.observation_keys = tuple(each["name"] for each in self._inputs) if len(self._inputs) > 1 else ()
        example = {each["name"]: numpy.zeros(each["shape"]).tolist() for each in self._inputs}
        # The first decision is slow, so it is made now. It also gives the keys of a reply.
        self.columns = list(self.decide([example if len(example) > 1 else example.popitem()[1]])[0])

    def decide(self, observations):
        """Return a list with one reply for each of `observations`: a dictionary with `action` and more.

        An observation is the numbers of the only input, or a dictionary with all inputs by name. Some networks also
        give `action_prob`, `action_probs` or `value`. Raises ValueError for an observation that does not fit the
        inputs.
        """
        states = [self._filter(self._state(given)) for given in observations]
        batch = [numpy.stack([state[each["name"]] for state in states]) for each in self._inputs]
        answers = dict(zip(self._description["outputs"], self._network(batch)))
        return [self._reply({name: rows[row] for name, rows in answers.items()}) for row in range(len(states))]

    def _state(self, given):
        names = [each["name"] for each in self._inputs]
        if len(names) == 1 and not isinstance(given, dict):
            given = {names[0]: given}
        elif not isinstance(given, dict) or set(given) != set(names):
            raise ValueError(
                "observation: expected an object with {}, given {}".format(", ".join(names), spaces.description(given))
            )
        return {
            each["name"]: spaces.read_numbers(given[each["name"]], each["name"], tuple(each["shape"])).astype(float)
            for each in self._inputs
        }

    def _filter(self, state):
        """Return `state`, a dictionary from input name to array, after the filters of the environment and the network.

        The statistics of the filters are not updated.
        """
        from rl_coach.core_types import EnvResponse

        for name in ("input", "before"):
            stage_filter = self._filters[name]
            stage_filter.reset()
            response = EnvResponse(next_state=state, reward=0, game_over=False)
            state = stage_filter.filter(response, update_internal_state=False)[0].next_state
        return {name: numpy.asarray(value) for name, value in state.items()}

    def _reply(self, answer):
        from rl_coach.core_types import ActionInfo

        reply = {}
        if "action" in answer:
            action = numpy.clip(answer["action"], self._description["low"], self._description["high"])
        else:
            action = int(numpy.argmax(answer["action_probs" if "action_probs" in answer else "q_values"]))
        reply["action"] = spaces.write(self._filters["output"].filter(ActionInfo(action=action)).action)
        if "action_probs" in answer:
            reply["action_prob"] = float(answer["action_probs"][action])
            reply["action_probs"] = answer["action_probs"].tolist()
        if "value" in answer or "q_values" in answer:
            reply["value"] = float(numpy.max(answer["value" if "value" in answer else "q_values"]))
        return reply


def _network(prefix):
    """Return the exported network as a function from a list of input arrays to a list of output arrays.

    `prefix` is the path of the network's files without `-symbol.json` and `-0000.params`.
    """
    import mxnet

    symbol = prefix + "-symbol.json"
    names = [name for name in mxnet.sym.load(symbol).list_inputs() if name.startswith("data")]
    block = mxnet.gluon.SymbolBlock.imports(symbol, sorted(names, key=_number), prefix + "-0000.params")

    def forward(batch):
        outputs = block(*[mxnet.nd.array(rows) for rows in batch])
        return [rows.asnumpy() for rows in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

    return forward


def _number(name):
    """Return the sort key of the network input `name`: `data` comes before `data1`, and `data2` before `data10`."""
    return int(name[len("data") :] or 0)
