"""Load a module of RLlib's new API stack (the default of late Ray 2) without a cluster or environment.

A checkpoint has the module and two pipelines: one prepares observations, the other one converts actions.
"""

import os

from sagemaker_rl.ray import policy as ray_policy
from sagemaker_rl.serving import ModelError


def load(checkpoint, wanted=None):
    """Return the module of the new API stack in the folder `checkpoint`, as a NewModule.

    `wanted` is the name of one of several modules, or None. Raises ModelError if the module is not clear, if a pipeline
    is missing, or if the checkpoint has several agents.
    """
    from ray.rllib.connectors.env_to_module import EnvToModulePipeline
    from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
    from ray.rllib.core.rl_module.rl_module import RLModule

    modules = os.path.join(checkpoint, "learner_group", "learner", "rl_module")
    names = [name for name in os.listdir(modules) if os.path.isdir(os.path.join(modules, name))]
    name = ray_policy.choose(names, wanted)
    pipelines = []
    parts = (("env_to_module_connector", EnvToModulePipeline), ("module_to_env_connector", ModuleToEnvPipeline))
    for part, kind in parts:
        folder = os.path.join(checkpoint, "env_runner", part)
        if not os.path.isdir(folder):
            raise ModelError("{} is missing in the checkpoint".format(folder))
        pipelines.append(kind.from_checkpoint(folder))
    if len(names) > 1 or pipelines[0].input_observation_space is None:
        raise ModelError("the model has {} agents' modules, and only single agents are served".format(len(names)))
    return NewModule(RLModule.from_checkpoint(os.path.join(modules, name)), *pipelines)


class NewModule:
    """A module of the new API stack, with the interface that sagemaker_rl.ray.model uses.

    The interface is the two spaces, `initial_state` and `act`. `module` is RLlib's RLModule, `before` the pipeline that
    prepares observations, and `after` the pipeline that converts actions.
    """

    def __init__(self, module, before, after):
        self.observation_space, self.action_space = before.input_observation_space, before.input_action_space
        self.module, self._before, self._after = module, before, after
        # Otherwise a filter would update its statistics with each observation.
        for step in before.connectors:
            if hasattr(step, "_update_stats"):
                step._update_stats = False
        self.initial_state = _numpy(module.get_initial_state()) if module.is_stateful() else None
        # The past of a continued episode may be anything: only its state is read.
        self._past = self.observation_space.sample(), self.action_space.sample()

    def act(self, observations, states, explore):
        """Decide on `observations`, with the state in `states` for each, and return a list with a dictionary for each.

        `explore` draws actions as in training instead of the best one. The dictionary has `action` (for the
        environment), `chosen` (before it was converted) and, if the module gives them, `logits`, `value`, `q_values`
        and `state_out`.
        """
        if len(observations) > 1 and hasattr(self.action_space, "spaces"):
            # RLlib's distributions of several parts take no batch: ray 2.60's logp() fails on it.
            return [self.act([one], [state], explore)[0] for one, state in zip(observations, states)]
        import torch
        from ray.rllib.core.columns import Columns
        from ray.rllib.env.single_agent_episode import SingleAgentEpisode

        module, shared = self.module, {}
        episodes = [self._episode(SingleAgentEpisode, *pair) for pair in zip(observations, states)]
        around = {"rl_module": module, "episodes": episodes, "explore": explore, "shared_data": shared}
        with torch.no_grad():
            batch = self._before(batch={}, **around)
            forward = module.forward_exploration if explore else module.forward_inference
            outputs = forward(batch)
            if Columns.VF_PREDS not in outputs and hasattr(module, "compute_values"):
                outputs[Columns.VF_PREDS] = module.compute_values(batch)
            logits = outputs.get(Columns.ACTION_DIST_INPUTS)
            outputs = self._after(batch=dict(outputs), **around)
        actions = outputs[Columns.ACTIONS]
        for_environment = outputs.get(Columns.ACTIONS_FOR_ENV, actions)
        chosen = []
        for row in range(len(observations)):
            answer = {"chosen": _part(actions, row), "action": _part(for_environment, row)}
            if logits is not None:
                answer["logits"] = _last(logits, row)
            if Columns.VF_PREDS in outputs:
                answer["value"] = _last(outputs[Columns.VF_PREDS], row)
            if "qf_preds" in outputs:
                answer["q_values"] = _last(outputs["qf_preds"], row)
            if Columns.STATE_OUT in outputs:
                answer["state_out"] = _numpy(outputs[Columns.STATE_OUT][row])
            chosen.append(answer)
        return chosen

    def _episode(self, kind, observation, state):
        """Return an episode whose last observation is `observation` and whose module state is `state`.

        `kind` is RLlib's class of episodes.
        """
        episode = kind(observation_space=self.observation_space, action_space=self.action_space)
        if state is self.initial_state:
            episode.add_env_reset(observation)
            return episode
        seen, done = self._past
        episode.add_env_reset(seen)
        episode.add_env_step(observation, done, 0.0, extra_model_outputs={"state_out": state})
        return episode


def _numpy(state):
    from ray.rllib.utils.numpy import convert_to_numpy

    return convert_to_numpy(state)


def _part(batch, row):
    """Return the row with the index `row` of `batch`, a batch of actions; of a tuple of arrays, this row of each."""
    import tree

    return tree.map_structure(lambda part: part[row], batch)


def _last(values, row):
    """Return the row with the index `row` of `values`, a tensor or array, as an array.

    A row of one item, such as one time step, is returned as that item.
    """
    import numpy

    array = numpy.asarray(values[row].detach() if hasattr(values[row], "detach") else values[row])
    return array[-1] if array.ndim and len(array) == 1 else array
