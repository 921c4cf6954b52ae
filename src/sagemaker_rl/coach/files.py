"""Read the hyperparameters of a Coach job, find its last checkpoint, and copy that checkpoint to the model folder.

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
    """A Coach job that cannot run because of a hyperparameter, its preset, Redis or a worker. The message says why."""


def backend(environ, hyperparameters=None):
    """Return Coach's name of the framework to use: `tensorflow` or `mxnet`.

    The hyperparameter `framework` decides, else COACH_BACKEND in `environ`; without both it is `tensorflow`. Raises
    CoachJobError for a framework that is not in BACKENDS.
    """
    word = (hyperparameters or {}).get("framework") or environ.get("COACH_BACKEND") or "tensorflow"
    if word not in BACKENDS:
        raise CoachJobError("{!r} is not a framework of Coach; known are tensorflow and mxnet".format(word))
    return BACKENDS[word]


def split_hyperparameters(hyperparameters):
    """Return (launcher, others): two dictionaries from the names in `hyperparameters` to values.

    `launcher` has the names in LAUNCHER_HYPERPARAMETERS, with values of their JSON types. `others` has the remaining
    names with unchanged values, except names that begin with `rl.`, `sagemaker_` or `_tuning`. Raises CoachJobError for
    an unknown name that begins with RLCOACH_.
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
    """Return the common prefix of the file names of the last checkpoint in `folder`, such as `12_Step-3400.ckpt`.

    The checkpoint with the highest number is the last. Returns None if there is no checkpoint or no such folder.
    """
    prefixes = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        prefix = re.match(r"(\d+)_Step-\d+\.ckpt", name)
        if prefix:
            prefixes[int(prefix.group(1))] = prefix.group(0)
    return prefixes[max(prefixes)] if prefixes else None


def find_restorable(folder):
    """Return the folder that Coach can restore from: `folder` or its subfolder `checkpoint`.

    Returns None if neither has a checkpoint.
    """
    for path in (folder, os.path.join(folder, "checkpoint")):
        if last_checkpoint(path):
            return path
    return None


def export(checkpoints, model):
    """Copy the last checkpoint in the folder `checkpoints` to the subfolder `checkpoint` of the folder `model`.

    The files by which Coach finds a checkpoint are copied too. Returns the names of the copied files; an empty list if
    there is no checkpoint.
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
