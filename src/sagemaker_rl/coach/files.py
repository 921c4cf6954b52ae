"""What a Coach job is asked for, and what of its checkpoint becomes the model. Text and files; no Coach is imported."""

import os
import re
import shutil

from sagemaker_rl.hyperparameters import PREFIX, typed

# Hyperparameters that are no settings of a preset, and what they mean to the launcher.
OWN = ("RLCOACH_PRESET", "save_model", "num_workers", "framework", "seed", "checkpoint_save_secs")
STEPS = ("Frames", "EnvironmentSteps", "EnvironmentEpisodes", "TrainingSteps", "Time")
CHECKPOINT_SECONDS = 10
BACKENDS = {"tf": "tensorflow", "tensorflow": "tensorflow", "mxnet": "mxnet"}


class CoachJobError(Exception):
    """A hyperparameter is not one that the launcher, or the preset, knows."""


def backend(environ, hyperparameters=None):
    """The framework that this image has, as Coach spells it: COACH_BACKEND, or the hyperparameter `framework`."""
    word = (hyperparameters or {}).get("framework") or environ.get("COACH_BACKEND") or "tensorflow"
    if word not in BACKENDS:
        raise CoachJobError("{!r} is no framework of Coach; known are tensorflow and mxnet".format(word))
    return BACKENDS[word]


def own(hyperparameters):
    """The hyperparameters that are for the launcher; and those that neither it nor `rl.` claims."""
    mine = {name: typed(value) for name, value in hyperparameters.items() if name in OWN}
    rest = {
        name: value
        for name, value in hyperparameters.items()
        if name not in OWN and not name.startswith((PREFIX, "sagemaker_", "_tuning"))
    }
    wrong = sorted(name for name in rest if name.startswith("RLCOACH_"))
    if wrong:
        raise CoachJobError("{} is no hyperparameter of the launcher; known are {}".format(wrong[0], ", ".join(OWN)))
    return mine, rest


def last_checkpoint(folder):
    """The prefix that all files of the last checkpoint share, as `12_Step-3400.ckpt`; None without one."""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        prefix = re.match(r"(\d+)_Step-\d+\.ckpt", name)
        if prefix:
            found[int(prefix.group(1))] = prefix.group(0)
    return found[max(found)] if found else None


def restorable(folder):
    """The folder that Coach can go on from: the given one or its `checkpoint`; None where neither holds one."""
    for path in (folder, os.path.join(folder, "checkpoint")):
        if last_checkpoint(path):
            return path
    return None


def export(checkpoints, model):
    """Copy the last checkpoint, and what Coach needs to find it, into the model's folder `checkpoint`.

    Returns the file names copied.
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
