"""A model of Coach's launcher, for the model server: the exported MXNet network, with Coach's filters around it.

Decisions are those of Coach's evaluation: the most probable or most valuable action, the mean of a continuous one. The
statistics that normalize observations stay what they were at the end of the training; Coach itself goes on counting.
"""

import json
import os
import pickle

import numpy

from sagemaker_rl import spaces
from sagemaker_rl.coach import export as coach_export
from sagemaker_rl.serving import ModelError


class Model:
    """The agent of the model folder."""

    workers = 1  # each has a copy of Coach and MXNet in memory: about 200 MB

    def __init__(self, folder):
        described = os.path.join(folder, coach_export.DESCRIPTION)
        if not os.path.exists(described):
            raise ModelError(
                "{} is missing: the launcher writes it for one agent on MXNet, with the hyperparameter save_model=1; "
                "SavedModels of TensorFlow are for TensorFlow Serving".format(described)
            )
        try:
            with open(described) as stream:
                self._described = json.load(stream)
            with open(os.path.join(folder, coach_export.FILTERS), "rb") as stream:
                self._filters = pickle.load(stream)
            self._network = _network(os.path.join(folder, coach_export.NETWORK))
        except Exception as error:
            reason = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
            raise ModelError("the network in {} cannot be loaded: {}".format(folder, reason)) from error
        self._inputs = self._described["inputs"]
        # Objects of JSON with these keys are observations themselves, see sagemaker_rl.serving.
        self.observation_keys = tuple(each["name"] for each in self._inputs) if len(self._inputs) > 1 else ()
        example = {each["name"]: numpy.zeros(each["shape"]).tolist() for each in self._inputs}
        # The first decision is the slow one, and shows what a reply has.
        self.columns = list(self.decide([example if len(example) > 1 else example.popitem()[1]])[0])

    def decide(self, observations):
        """Actions for a list of observations: each the numbers of the one input, or an object with all inputs."""
        states = [self._filtered(self._state(given)) for given in observations]
        batch = [numpy.stack([state[each["name"]] for state in states]) for each in self._inputs]
        answers = dict(zip(self._described["outputs"], self._network(batch)))
        return [self._reply({name: rows[row] for name, rows in answers.items()}) for row in range(len(states))]

    def _state(self, given):
        names = [each["name"] for each in self._inputs]
        if len(names) == 1 and not isinstance(given, dict):
            given = {names[0]: given}
        elif not isinstance(given, dict) or set(given) != set(names):
            raise ValueError(
                "observation: expected an object with {}, given {}".format(", ".join(names), spaces.said(given))
            )
        return {
            each["name"]: spaces.numbers_of(given[each["name"]], each["name"], tuple(each["shape"])).astype(float)
            for each in self._inputs
        }

    def _filtered(self, state):
        """One state through the filters of the environment's side, then of the network's; none learns from it."""
        from rl_coach.core_types import EnvResponse

        for name in ("input", "before"):
            one = self._filters[name]
            one.reset()
            response = EnvResponse(next_state=state, reward=0, game_over=False)
            state = one.filter(response, update_internal_state=False)[0].next_state
        return {name: numpy.asarray(value) for name, value in state.items()}

    def _reply(self, answer):
        from rl_coach.core_types import ActionInfo

        reply = {}
        if "action" in answer:
            action = numpy.clip(answer["action"], self._described["low"], self._described["high"])
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
    """The exported network as a function: a list of arrays, one for each input, to one for each output."""
    import mxnet

    symbol = prefix + "-symbol.json"
    names = [name for name in mxnet.sym.load(symbol).list_inputs() if name.startswith("data")]
    block = mxnet.gluon.SymbolBlock.imports(symbol, sorted(names, key=_number), prefix + "-0000.params")

    def forward(batch):
        found = block(*[mxnet.nd.array(rows) for rows in batch])
        return [rows.asnumpy() for rows in (found if isinstance(found, (list, tuple)) else [found])]

    return forward


def _number(name):
    """`data` before `data1`, `data2` before `data10`."""
    return int(name[len("data") :] or 0)
