"""Load a policy of RLlib's old API stack (Ray 1 and most of Ray 2) without a cluster or environment.

Ray 2 writes a folder for each policy that says how to build it. Ray 1.3 to 1.13 pickle all policies into one file with
their classes and spaces; the settings are RLlib's defaults, changed by the trial's params.json.
"""

import contextlib
import json
import os
import pickle

import numpy

from sagemaker_rl.serving import ModelError

# Connectors of Ray 2 that need the whole episode; here, each observation is independent.
EPISODE_CONNECTORS = ("StateBufferConnector", "ViewRequirementAgentConnector", "ClipRewardAgentConnector")


def load(checkpoint, wanted=None):
    """Return the policy in `checkpoint` as an OldPolicy.

    `checkpoint` is a folder of Ray 2, or a file of Ray 1 with params.json beside it. `wanted` is the name of one of
    several policies, or None. Raises ModelError if no policy can be built or the choice is unclear.
    """
    _enable_eager_execution()
    if os.path.isdir(checkpoint):
        folder = os.path.join(checkpoint, "policies")
        if not os.path.isdir(folder):
            raise ModelError("{} holds no policy of RLlib's old API stack".format(checkpoint))
        folder = os.path.join(folder, choose(os.listdir(folder), wanted))
        with open(os.path.join(folder, "policy_state.pkl"), "rb") as stream:
            return _from_state(pickle.load(stream))
    with open(checkpoint, "rb") as stream:
        worker = pickle.loads(pickle.load(stream)["worker"])
    if not worker.get("policy_specs"):
        raise ModelError("checkpoints of Ray before 1.3 do not say how to build their policy: not served")
    name = choose(worker["policy_specs"], wanted)
    params = os.path.join(os.path.dirname(checkpoint), "params.json")
    if not os.path.exists(params):
        raise ModelError("{} is missing: without the settings of the training no policy is built".format(params))
    with open(params) as stream:
        return _from_worker(name, worker, json.load(stream))


def choose(names, wanted):
    """Return the name `wanted` if it is in `names`, or the only name if `wanted` is None.

    Raises ModelError with all names in any other case.
    """
    names = sorted(names)
    if wanted in names:
        return wanted
    if wanted is None and len(names) == 1:
        return names[0]
    raise ModelError(
        "{}: set RLIMAGES_POLICY to one of {}".format(
            "the model has {} policies".format(len(names)) if wanted is None else "no policy {!r}".format(wanted),
            ", ".join(names),
        )
    )


def _from_state(state):
    from ray.rllib.policy.policy import Policy

    with _graph(state["policy_spec"]["config"].get("framework"), "policy"):
        policy = Policy.from_state(state)
    space = getattr(policy.observation_space, "original_space", policy.observation_space)
    return OldPolicy(policy, space, [_connected(policy)])


def _from_worker(name, worker, params):
    from ray.rllib.models import ModelCatalog
    from ray.rllib.policy.tf_policy import TFPolicy
    from ray.rllib.utils import merge_dicts

    spec, state = worker["policy_specs"][name], worker["state"][name]
    # params.json has classes as text such as `<class ...>`; the policy has them in its specification.
    params = {key: value for key, value in params.items() if not (isinstance(value, str) and value.startswith("<"))}
    config = merge_dicts(merge_dicts(_defaults(spec.policy_class), params), spec.config or {})
    config.update(num_workers=0, worker_index=0, num_gpus=0, num_gpus_per_worker=0)
    kind, framework = spec.policy_class, config["framework"] if issubclass(spec.policy_class, TFPolicy) else "torch"
    with _graph(framework, name):
        if framework in ("tf2", "tfe"):
            kind = kind.as_eager()
        policy = kind(spec.observation_space, spec.action_space, config)
        policy.set_state({key: value for key, value in state.items() if key != "_optimizer_variables"})
    space = getattr(spec.observation_space, "original_space", spec.observation_space)
    preprocessor = ModelCatalog.get_preprocessor_for_space(space, config["model"])
    changes = [] if type(preprocessor).__name__ == "NoPreprocessor" else [preprocessor.transform]
    observation_filter = worker["filters"].get(name)
    if observation_filter is not None:
        changes.append(lambda value: observation_filter(value, update=False))
    return OldPolicy(policy, space, changes)


def _defaults(kind):
    """Return the default settings of the algorithm that the policy class `kind` belongs to.

    They are in the closure of the class. Returns RLlib's common settings if the closure has none.
    """
    from ray.rllib.agents.trainer import COMMON_CONFIG

    for cell in getattr(kind.with_updates, "__closure__", None) or ():
        if isinstance(cell.cell_contents, dict) and cell.cell_contents.get("get_default_config"):
            return cell.cell_contents["get_default_config"]()
    return COMMON_CONFIG


def _enable_eager_execution():
    """Enable eager execution of TensorFlow, if the image has it. Return TensorFlow's module `tf1`, or None.

    This must happen before other parts of RLlib are imported.
    """
    from ray.rllib.utils.framework import try_import_tf

    tf1 = try_import_tf()[0]
    if tf1:
        tf1.enable_eager_execution()
    return tf1


@contextlib.contextmanager
def _graph(framework, scope):
    """Let the block build a policy in a graph of its own, with variables in `scope`, if `framework` is `tf`.

    This framework uses graphs and not eager execution. For any other, the block runs unchanged.
    """
    if framework != "tf":
        yield
        return
    tf1 = _enable_eager_execution()
    graph = tf1.Graph()
    with graph.as_default(), tf1.Session(graph=graph).as_default(), tf1.variable_scope(scope):
        yield


def _connected(policy):
    """Return a function that applies the connectors which Ray 2 stored with `policy` to one observation.

    The function returns the observation as the network of `policy` expects it. Raises ModelError without connectors.
    """
    from ray.rllib.policy.sample_batch import SampleBatch
    from ray.rllib.utils.typing import AgentConnectorDataType

    pipeline = getattr(policy, "agent_connectors", None)
    if pipeline is None:
        raise ModelError("the checkpoint has no connectors: train with `enable_connectors`, RLlib's default")
    pipeline.in_eval()
    steps = [step for step in pipeline.connectors if type(step).__name__ not in EPISODE_CONNECTORS]

    def transform(value):
        data = [AgentConnectorDataType("0", "0", {SampleBatch.OBS: value})]
        for step in steps:
            data = step(data)
        return data[0].data[SampleBatch.OBS]

    return transform


class OldPolicy:
    """A policy of the old API stack, with the interface that sagemaker_rl.ray.model uses.

    The interface is the two spaces, `initial_state` and `act`. `policy` is RLlib's policy, and `changes` the functions
    that one after the other prepare an observation for it. Creating it raises ModelError if the policy uses earlier
    values of its episode.
    """

    def __init__(self, policy, observation_space, changes):
        self.observation_space, self.action_space = observation_space, policy.action_space_struct
        self.initial_state = [numpy.asarray(part) for part in policy.get_initial_state()]
        self.policy, self._changes = policy, changes
        for name, view in policy.model.view_requirements.items():
            known = name == "obs" or name.startswith(("state_in_", "state_out_"))
            if view.used_for_compute_actions and (not known or not isinstance(view.shift, int)):
                raise ModelError("the policy uses earlier {!r} of its episode, which is not supported".format(name))

    def act(self, observations, states, explore):
        """Decide on `observations`, with the state in `states` for each, and return a list with a dictionary for each.

        A state is a list of arrays. `explore` draws actions as in training. A dictionary has `action` (for the
        environment), `chosen` (before it was converted), `state_out` and, if the policy gives them, `logits`, `value`
        and `q_values`.
        """
        if self.initial_state and len(observations) > 1:
            # Recurrent models of TensorFlow accept only the batch size of their first call.
            return [self.act([one], [state], explore)[0] for one, state in zip(observations, states)]
        import tree
        from ray.rllib.policy.sample_batch import SampleBatch
        from ray.rllib.utils.spaces import space_utils

        config = self.policy.config
        prepared = [self._seen(observation) for observation in observations]
        batch = {SampleBatch.OBS: tree.map_structure(lambda *rows: numpy.stack(rows), *prepared)}
        for number in range(len(self.initial_state)):
            batch["state_in_{}".format(number)] = numpy.stack([state[number] for state in states])
        actions, state_out, extra = self.policy.compute_actions_from_input_dict(SampleBatch(batch), explore=explore)
        chosen = []
        for row in range(len(observations)):
            action = tree.map_structure(lambda part: numpy.asarray(part)[row], actions)  # noqa: B023 - used at once
            answer = {"chosen": action, "state_out": [part[row] for part in state_out]}
            if config.get("normalize_actions"):
                action = space_utils.unsquash_action(action, self.action_space)
            elif config.get("clip_actions"):
                action = space_utils.clip_action(action, self.action_space)
            answer["action"] = action
            for name, key in (("logits", "action_dist_inputs"), ("value", "vf_preds"), ("q_values", "q_values")):
                if key in extra:
                    answer[name] = extra[key][row]
            chosen.append(answer)
        return chosen

    def _seen(self, observation):
        for change in self._changes:
            observation = change(observation)
        return observation
