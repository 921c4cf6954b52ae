"""A model of Ray's launcher, or any checkpoint of RLlib in the model folder, for the model server.

It decides greedily; with RLIMAGES_EXPLORE=true as in training. Of several policies RLIMAGES_POLICY names one. A policy
with a memory has it from the caller: an observation may be {"observation": …, "state_in": …}, with what the reply
before called `state_out`; without, an episode begins.

A checkpoint only names custom models and classes. They may be in the model's folder `code`, where SageMaker's SDK puts
the code of a model; its `inference.py` (SAGEMAKER_PROGRAM), if there is one, runs first and registers what RLlib wants.
"""

import importlib
import os
import sys

import numpy

from sagemaker_rl import spaces
from sagemaker_rl.ray import files as ray_files
from sagemaker_rl.serving import ModelError


class Model:
    """The policy of the model folder."""

    workers = 1  # each has a copy of RLlib and its framework in memory: 400 to 600 MB

    def __init__(self, folder):
        checkpoint = ray_files.from_channel(folder)
        if checkpoint is None:
            raise ModelError("{} holds no checkpoint of RLlib".format(folder))
        wanted = os.environ.get("RLIMAGES_POLICY") or None
        self.explore = os.environ.get("RLIMAGES_EXPLORE", "").lower() in ("true", "1", "yes")
        try:
            _run_code(os.path.join(folder, "code"))
            self._policy = _load(checkpoint, wanted)
        except ModelError:
            raise
        except Exception as error:
            reason = "{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0])
            if isinstance(error, (ImportError, AttributeError, KeyError)):
                reason += "; what the script defined itself belongs into the model's code/inference.py"
            raise ModelError("the checkpoint {} cannot be loaded: {}".format(checkpoint, reason)) from error
        self.space = self._policy.observation_space
        # Objects of JSON with these keys are observations themselves, see sagemaker_rl.serving.
        members = getattr(self.space, "spaces", None)
        self.observation_keys = tuple(members) if isinstance(members, dict) else ()
        if self._policy.initial_state:
            self.observation_keys = ("observation", "state_in")
        # The first decision is the slow one, and shows what a reply has.
        self.columns = list(self.decide([spaces.write(self.space.sample())])[0])

    def decide(self, observations):
        """Actions for a list of observations; see the top of this module for a policy with a memory."""
        read, states = [], []
        for given in observations:
            given, state = self._memory(given)
            read.append(spaces.read(self.space, given))
            states.append(state)
        try:
            answers = self._policy.act(read, states, self.explore)
        except ValueError as error:  # the observations are what they should be, so it is not for who sent them
            raise RuntimeError(str(error)) from error
        return [self._reply(found) for found in answers]

    def _memory(self, given):
        memory = self._policy.initial_state
        if not memory or not isinstance(given, dict) or set(given) - {"observation", "state_in"}:
            return given, memory
        if "observation" not in given:
            raise ValueError("expected 'observation' beside 'state_in', given only that")
        return given["observation"], _like(memory, given["state_in"]) if "state_in" in given else memory

    def _reply(self, found):
        reply = {"action": spaces.write(found["action"])}
        if "q_values" in found:
            reply["value"] = float(numpy.max(found["q_values"]))
        elif "logits" in found and type(self._policy.action_space).__name__ == "Discrete":
            likely = numpy.exp(found["logits"] - numpy.max(found["logits"]))
            likely = likely / likely.sum()
            reply["action_prob"] = float(likely[int(found["chosen"])])
            reply["action_probs"] = likely.tolist()
        if "value" in found:
            reply["value"] = float(found["value"])
        if self._policy.initial_state:
            reply["state_out"] = spaces.write(found["state_out"])
        return reply


def _run_code(folder):
    """Make the model's own code known, and run its program."""
    sys.path.append(folder)
    name, ending = os.path.splitext(os.environ.get("SAGEMAKER_PROGRAM") or "inference.py")
    if ending == ".py" and os.path.exists(os.path.join(folder, name + ending)):
        importlib.import_module(name)


def _load(checkpoint, wanted):
    if os.path.isdir(os.path.join(checkpoint, "learner_group")):
        from sagemaker_rl.ray import module as ray_module

        return ray_module.load(checkpoint, wanted)
    from sagemaker_rl.ray import policy as ray_policy

    return ray_policy.load(checkpoint, wanted)


def _like(memory, given, name="state_in"):
    """A state from JSON, of the same kind and shapes as the initial one."""
    if isinstance(memory, dict):
        if not isinstance(given, dict) or set(given) != set(memory):
            wanted = ", ".join(sorted(memory))
            raise ValueError("{}: expected an object with {}, given {}".format(name, wanted, spaces.said(given)))
        return {key: _like(part, given[key], "{}.{}".format(name, key)) for key, part in memory.items()}
    if isinstance(memory, (list, tuple)):
        if not isinstance(given, list) or len(given) != len(memory):
            raise ValueError("{}: expected a list of {}, given {}".format(name, len(memory), spaces.said(given)))
        return [_like(part, value, "{}[{}]".format(name, row)) for row, (part, value) in enumerate(zip(memory, given))]
    return spaces.numbers_of(given, name, memory.shape).astype(memory.dtype)
