"""Read the hyperparameters of a Coach job, and choose the files of its checkpoint that become the model.

This module imports no Coach.
"""

import os
import re
import shutil

from sagemaker_rl.hyperparameters import PREFIX, parse_value

# Hyperparameters of the launcher itself; all others change the preset.
LAUNCHER_HYPERPARAMETERS = ("RLCOACH_PRESET", "save_model", "num_workers", "framework", "seed", "checkpoint_save_secs")
STEPS = ("Frames", "EnvironmentSteps", "EnvironmentEpisodes", "TrainingSteps", "Time")
CHECKPOINT_SECONDS = 10
BACKENDS = {"tf": "tensorflow", "tensorflow": "tensorflow", "mxnet": "mxnet"}


class CoachJobError(Exception):
    """Neither the launcher nor the preset knows a hyperparameter, or the job cannot run with its value."""


def backend(environ, hyperparameters=None):
    """Return the framework as Coach spells it: from the hyperparameter `framework`, else from COACH_BACKEND.

    Raises CoachJobError for an unknown framework.
    """
    word = (hyperparameters or {}).get("framework") or environ.get("COACH_BACKEND") or "tensorflow"
    if word not in BACKENDS:
        raise CoachJobError("{!r} is not a framework of Coach; known are tensorflow and mxnet".format(word))
    return BACKENDS[word]


def split_hyperparameters(hyperparameters):
    """Return two dictionaries: the launcher's hyperparameters, and the others that do not begin with `rl.`.

    Raises CoachJobError for an unknown name that begins with RLCOACH_.
    """
    launcher = {name: parse_value(value) for name, value in hyperparameters.items() if name in LAUNCHER_HYPERPARAMETERS}
    others = {
        name: value
        for name, value in hyperparameters.items()
        if name not in LAUNCHER_HYPERPARAMETERS and not name.startswith((PREFIX, "sagemaker_", "_tuning"))
    }
    unknown = sorted(name for name in others if name.startswith("RLCOACH_"))
    if unknown:
        raise CoachJobError(
            "{} is not a hyperparameter of the launcher; known are {}".format(
                unknown[0], ", ".join(LAUNCHER_HYPERPARAMETERS)
            )
        )
    return launcher, others


def last_checkpoint(folder):
    """Return the common prefix of the last checkpoint's files, such as `12_Step-3400.ckpt`, or None."""
    prefixes = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        prefix = re.match(r"(\d+)_Step-\d+\.ckpt", name)
        if prefix:
            prefixes[int(prefix.group(1))] = prefix.group(0)
    return prefixes[max(prefixes)] if prefixes else None


def find_restorable(folder):
    """Return the folder that Coach can restore from: this one or its `checkpoint`; None if neither has a checkpoint."""
    for path in (folder, os.path.join(folder, "checkpoint")):
        if last_checkpoint(path):
            return path
    return None


def export(checkpoints, model):
    """Copy the last checkpoint, and the files by which Coach finds it, to the folder `checkpoint` of the model.

    Returns the names of the copied files.
    """
    prefix = last_checkpoint(checkpoints)
    if prefix is None:
        return []
    target = os.path.join(model, "checkpoint")
    os.makedirs(target, exist_ok=True)
    copied = []
    for name in sorted(os.listdir(checkpoints)):
        path = os.path.join(checkpoints, name)
        if os.path.isfile(path) and (name.startswith(prefix) or name in (".coach_checkpoint", "checkpoint")):
            shutil.copyfile(path, os.path.join(target, name))
            copied.append(name)
    return copied
