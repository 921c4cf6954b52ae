"""Translate an experiment's dictionary for the installed version of Ray. This module imports no Ray.

Scripts for Ray 0.x and 1.x use names such as `num_workers`, `num_sgd_iter` or `monitor`. RLlib has renamed most of its
settings since, and newer versions silently ignore an unknown one. Here, each is renamed, or removed with a note.
"""

import copy

# A name of one version of RLlib's configuration, and its names in other versions.
RENAMED = {
    "num_workers": ("num_env_runners", "num_rollout_workers"),
    "num_rollout_workers": ("num_env_runners", "num_workers"),
    "num_env_runners": ("num_rollout_workers", "num_workers"),
    "num_envs_per_worker": ("num_envs_per_env_runner",),
    "num_cpus_per_worker": ("num_cpus_per_env_runner",),
    "num_gpus_per_worker": ("num_gpus_per_env_runner",),
    "num_cpus_for_driver": ("num_cpus_for_main_process", "num_cpus_for_local_worker"),
    "custom_resources_per_worker": ("custom_resources_per_env_runner",),
    "num_sgd_iter": ("num_epochs",),
    "num_epochs": ("num_sgd_iter",),
    "sgd_minibatch_size": ("minibatch_size",),
    "minibatch_size": ("sgd_minibatch_size",),
    "sample_batch_size": ("rollout_fragment_length",),
    "ignore_worker_failures": ("ignore_env_runner_failures",),
    "recreate_failed_workers": ("restart_failed_env_runners",),
    "evaluation_num_workers": ("evaluation_num_env_runners",),
    "min_iter_time_s": ("min_time_s_per_iteration", "min_time_s_per_reporting"),
    "timesteps_per_iteration": ("min_sample_timesteps_per_iteration", "min_sample_timesteps_per_reporting"),
    "monitor": ("record_env",),
    "env_to_module_connector": ("_env_to_module_connector",),
    "module_to_env_connector": ("_module_to_env_connector",),
    "learner_connector": ("_learner_connector",),
    "rl_module_spec": ("_rl_module_spec",),
    "model_config": ("_model_config",),
}

# Names that RLlib accepts although its configuration object has no such attribute.
ACCEPTED = {"multiagent", "callbacks", "framework", "lambda", "input", "output", "env", "env_config", "model"}

# Settings of the old API stack's models that the new stack's default model has under the same name.
MODEL = {
    "fcnet_hiddens",
    "fcnet_activation",
    "conv_filters",
    "conv_activation",
    "head_fcnet_hiddens",
    "head_fcnet_activation",
    "vf_share_layers",
    "use_lstm",
    "max_seq_len",
    "lstm_cell_size",
}

# Conditions that end an experiment: the old API stack's name of a metric, and the new one's.
STOP = {
    "episode_reward_mean": "env_runners/episode_return_mean",
    "episode_reward_max": "env_runners/episode_return_max",
    "episode_reward_min": "env_runners/episode_return_min",
    "episode_len_mean": "env_runners/episode_len_mean",
    "episodes_total": "env_runners/num_episodes_lifetime",
    "timesteps_total": "num_env_steps_sampled_lifetime",
}

# Tune's checkpoint settings: their names in an experiment, and in `checkpoint_config`.
CHECKPOINT = {
    "checkpoint_freq": "checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_at_end",
    "keep_checkpoints_num": "num_to_keep",
    "checkpoint_score_attr": "checkpoint_score_attribute",
}

FREQUENCY = 10  # iterations between two checkpoints, unless the script sets it


def version(text):
    """Return the version in `text` as a tuple of numbers: `2.9.3` as (2, 9, 3). As text, 0.10 would come before 0.8."""
    numbers = []
    for word in text.split(".")[:3]:
        digits = "".join(sign for sign in word if sign.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def storage(spec, folder, spec_keys):
    """Return (spec, notes): a copy of the Tune experiment `spec` that stores checkpoints under `folder`.

    `notes` are sentences about what was removed. `spec_keys` are the keys that this version of Tune knows. If
    `checkpoint_config` is one of them, the checkpoint settings move there, as a dictionary that Tune converts to its
    own class.
    """
    spec, notes = dict(spec), []
    for word in ("local_dir", "storage_path"):
        spec.pop(word, None)
    spec["storage_path" if "storage_path" in spec_keys else "local_dir"] = folder
    checkpoint_config = spec.pop("checkpoint_config", None)
    if "checkpoint_config" not in spec_keys:
        for old, new in CHECKPOINT.items():
            value = (
                checkpoint_config.get(new)
                if isinstance(checkpoint_config, dict)
                else getattr(checkpoint_config, new, None)
            )
            if value is not None:
                spec[old] = value
        spec.setdefault("checkpoint_freq", FREQUENCY)
        spec["checkpoint_at_end"] = True
    else:
        if checkpoint_config is None or isinstance(checkpoint_config, dict):
            values = dict(checkpoint_config or {})
        else:
            values = {new: getattr(checkpoint_config, new, None) for new in CHECKPOINT.values()}
            values["checkpoint_score_order"] = getattr(checkpoint_config, "checkpoint_score_order", None)
        for old, new in CHECKPOINT.items():
            if old in spec:
                values[new] = spec.pop(old)
        if not values.get("checkpoint_frequency"):
            values["checkpoint_frequency"] = FREQUENCY
        values["checkpoint_at_end"] = True
        spec["checkpoint_config"] = {name: value for name, value in values.items() if value is not None}
    for word in sorted(set(spec) - set(spec_keys) - {"run", "env"}):
        del spec[word]
        notes.append("{!r} is not a key of an experiment of this Ray: left out".format(word))
    return spec, notes


def settings(config, known, videos=True):
    """Return (settings, notes): RLlib's configuration `config` with the names that this version of RLlib knows.

    `notes` are sentences about what was renamed or removed. `known` are the names that it knows; `videos` says whether
    the image has a program to record videos.
    """
    translated, notes = {}, []
    for old in config:
        new = next((name for name in RENAMED.get(old, ()) if name in known), old)
        if new in config and new != old:
            notes.append("{!r} is called {!r}, which is given too: left out".format(old, new))
            continue
        if new in ("monitor", "record_env") and config[old] and (new not in known or not videos):
            reason = "this image has no ffmpeg" if new in known else "this Ray records no videos"
            notes.append("{!r}: {}: left out".format(old, reason))
            continue
        if old in ACCEPTED:
            new = old
        elif new not in known:
            notes.append("{!r} is not a setting of this RLlib: left out".format(old))
            continue
        if new != old:
            notes.append("{!r} is called {!r} in this Ray".format(old, new))
        translated[new] = copy.copy(config[old])
    return translated, notes


def new_stack(config):
    """Return (config, notes): a copy of `config` for RLlib's new API stack, and sentences about what changed.

    The new stack uses PyTorch, and has settings of its own for the model and for GPUs.
    """
    config, notes = dict(config), []
    framework = config.get("framework", "torch")
    if framework != "torch":
        config["framework"] = "torch"
        notes.append("'framework': {!r} is 'torch' on the new API stack".format(framework))
    gpus = config.get("num_gpus")
    if gpus and "num_gpus_per_learner" not in config:
        # With num_learners 0, the main process is the learner.
        config["num_gpus_per_learner"] = gpus / max(1, config.get("num_learners") or 0)
        config["num_gpus"] = 0
        notes.append("'num_gpus' is called 'num_gpus_per_learner' on the new API stack")
    model = config.pop("model", None)
    if model:
        kept = {name: model[name] for name in model if name in MODEL}
        for name in sorted(set(model) - set(kept)):
            notes.append("'model.{}' is not a setting of the new API stack's default model: left out".format(name))
        if kept.get("use_lstm"):
            kept.setdefault("max_seq_len", 20)  # the old stack's default; the new stack has none for an LSTM
        if kept:
            config["_model_config"] = dict(kept, **(config.get("_model_config") or {}))
    return config, notes


def stop(conditions):
    """Return `conditions`, those that end an experiment, with the metric names of the new API stack.

    Anything but a dictionary from metric to value is returned unchanged.
    """
    if not isinstance(conditions, dict):
        return conditions
    return {STOP.get(name, name): value for name, value in conditions.items()}


def _find(result, paths):
    for path in paths:
        value = result
        for word in path.split("/"):
            value = value.get(word) if isinstance(value, dict) else None
        # `value == value` is false for NaN, the value before the first episode has ended.
        if isinstance(value, (int, float)) and value == value:
            return value
    return None


def rewards(result):
    """Return a dictionary of the mean, highest and lowest reward in `result`, Tune's result of one iteration.

    Its keys are `episode_reward_mean`, `episode_reward_max` and `episode_reward_min` for both API stacks. A reward that
    `result` does not have is left out.
    """
    values = {}
    for word in ("mean", "max", "min"):
        value = _find(
            result,
            (
                "episode_reward_" + word,
                "env_runners/episode_return_" + word,
                "env_runners/episode_reward_" + word,
                "sampler_results/episode_reward_" + word,
            ),
        )
        if value is not None:
            values["episode_reward_" + word] = float(value)
    return values


def report(result):
    """Return a list of lines to print for `result`, Tune's result of one iteration.

    There are two lines, or one if no episode has ended. Metric definitions find each value once: RLEstimator's
    `episode_reward_mean: ([-+]?...` in the first line, and `episode_reward_mean +([-+]?...`, which is in use with Ray
    2, in the second.
    """
    values = sorted(rewards(result).items())
    steps = _find(result, ("num_env_steps_sampled_lifetime", "timesteps_total"))
    head = "iteration {}, {} steps, {:.1f} s".format(
        result.get("training_iteration", "?"), "?" if steps is None else int(steps), result.get("time_total_s", 0.0)
    )
    if not values:
        return [head + ": no episode has ended yet"]
    # Not 1e-05: the expressions of the metric definitions do not read that as one number.
    numbers = [(name, "{:.6f}".format(value)) for name, value in values]
    return [
        head + "  " + "  ".join("{}: {}".format(*pair) for pair in numbers),
        "  ".join("{} {}".format(*pair) for pair in numbers),
    ]
