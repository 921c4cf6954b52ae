"""Serve a checkpoint of RLlib: one that the launcher wrote, or any other one in the model folder.

Decisions are greedy; with RLIMAGES_EXPLORE=true, actions are drawn as in training. If the model has several policies,
RLIMAGES_POLICY names the one to serve. The caller keeps the memory of a recurrent policy: an observation may be
{"observation": ..., "state_in": ...} with the `state_out` of the previous reply. Without `state_in`, an episode starts.

A checkpoint contains only the names of custom models and classes. Their code may be in the model's folder `code`, where
SageMaker's SDK puts it. Its program `inference.py` (or SAGEMAKER_PROGRAM) runs first, and registers them with RLlib.
"""

import importlib
import os
import sys

import numpy

from sagemaker_rl import spaces
from sagemaker_rl.ray import files as ray_files
from sagemaker_rl.serving import ModelError


class Model:
    """A policy of RLlib that was loaded from a checkpoint in `folder`.

    It has the interface that sagemaker_rl.serving describes. Creating it raises ModelError if `folder` has no
    checkpoint or the checkpoint cannot be loaded.
    """

    workers = 1  # each worker has its own copy of RLlib and its framework in memory, 400 to 600 MB

    def __init__(self, folder):
        checkpoint = ray_files.find_checkpoint(folder)
        if checkpoint is None:
            raise ModelError("{} holds no checkpoint of RLlib".format(folder))
        policy_name = os.environ.get("RLIMAGES_POLICY") or None
        self.explore = os.environ.get("RLIMAGES_EXPLORE", "").lower() in ("true", "1", "yes")
        try:
            _run_code(os.path.join(folder, "code"))
            self._policy = _load(checkpoint, policy_name)
        except ModelError:
            raise
        except Exception as error:
            reason = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
            if isinstance(error, (ImportError, AttributeError, KeyError)):
                reason += "; put classes of the training script into the model's code/inference.py"
            raise ModelError("the checkpoint {} cannot be loaded: {}".format(checkpoint, reason)) from error
        self.space = self._policy.observation_space
        # JSON objects with these keys are observations, see sagemaker_rl.serving.
        members = getattr(self.space, "spaces", None)
        self.observation_keys = tuple(members) if isinstance(members, dict) else ()
        if self._policy.initial_state:
            self.observation_keys = ("observation", "state_in")
        # The first decision is slow, so it is made now. It also gives the keys of a reply.
        self.columns = list(self.decide([spaces.write(self.space.sample())])[0])

    def decide(self, observations):
        """Return a list with one reply for each of `observations`: a dictionary with `action` and more.

        Some policies also give `value`, `action_prob`, `action_probs` and `state_out`. The module's docstring describes
        observations of a recurrent policy. Raises ValueError for an observation that is not in the policy's space.
        """
        values, states = [], []
        for given in observations:
            given, state = self._memory(given)
            values.append(spaces.read(self.space, given))
            states.append(state)
        try:
            answers = self._policy.act(values, states, self.explore)
        except ValueError as error:  # the observations are valid, so this is a fault of the model and not of the client
            raise RuntimeError(str(error)) from error
        return [self._reply(answer) for answer in answers]

    def _memory(self, given):
        memory = self._policy.initial_state
        if not memory or not isinstance(given, dict) or set(given) - {"observation", "state_in"}:
            return given, memory
        if "observation" not in given:
            raise ValueError("expected 'observation' beside 'state_in', given only that")
        return given["observation"], _like(memory, given["state_in"]) if "state_in" in given else memory

    def _reply(self, answer):
        reply = {"action": spaces.write(answer["action"])}
        if "q_values" in answer:
            reply["value"] = float(numpy.max(answer["q_values"]))
        elif "logits" in answer and type(self._policy.action_space).__name__ == "Discrete":
            likely = numpy.exp(answer["logits"] - numpy.max(answer["logits"]))
            likely = likely / likely.sum()
            reply["action_prob"] = float(likely[int(answer["chosen"])])
            reply["action_probs"] = likely.tolist()
        if "value" in answer:
            reply["value"] = float(answer["value"])
        if self._policy.initial_state:
            reply["state_out"] = spaces.write(answer["state_out"])
        return reply


def _run_code(folder):
    """Add `folder`, the model's own code, to the import path, and run its program if there is one."""
    sys.path.append(folder)
    name, ending = os.path.splitext(os.environ.get("SAGEMAKER_PROGRAM") or "inference.py")
    if ending == ".py" and os.path.exists(os.path.join(folder, name + ending)):
        importlib.import_module(name)


def _load(checkpoint, policy_name):
    if os.path.isdir(os.path.join(checkpoint, "learner_group")):
        from sagemaker_rl.ray import module as ray_module

        return ray_module.load(checkpoint, policy_name)
    from sagemaker_rl.ray import policy as ray_policy

    return ray_policy.load(checkpoint, policy_name)


def _like(memory, value, name="state_in"):
    """Return `value`, a state in JSON, with the types and shapes of `memory`, the policy's initial state.

    Raises ValueError, whose message begins with `name`, if the two have different structures or shapes.
    """
    if isinstance(memory, dict):
        if not isinstance(value, dict) or set(value) != set(memory):
            expected = ", ".join(sorted(memory))
            raise ValueError(
                "{}: expected an object with {}, given {}".format(name, expected, spaces.description(value))
            )
        return {key: _like(part, value[key], "{}.{}".format(name, key)) for key, part in memory.items()}
    if isinstance(memory, (list, tuple)):
        if not isinstance(value, list) or len(value) != len(memory):
            raise ValueError("{}: expected a list of {}, given {}".format(name, len(memory), spaces.description(value)))
        return [_like(part, item, "{}[{}]".format(name, row)) for row, (part, item) in enumerate(zip(memory, value))]
    return spaces.read_numbers(value, name, memory.shape).astype(memory.dtype)
