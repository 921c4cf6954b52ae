"""Which checkpoint to go on from, and what of an experiment becomes the model. Files only; no Ray is imported."""

import os
import re
import shutil

FOLDER = re.compile(r"checkpoint_(\d+)$")
FILE = re.compile(r"checkpoint-\d+$")


def checkpoints(root):
    """All checkpoint folders under a folder, the oldest first; by time, and by number where that is the same."""
    found = []
    for path, folders, _ in os.walk(root):
        for name in folders:
            number = FOLDER.match(name)
            if number and os.listdir(os.path.join(path, name)):
                folder = os.path.join(path, name)
                found.append((os.path.getmtime(folder), int(number.group(1)), folder))
    return [folder for _, _, folder in sorted(found)]


def inside(folder):
    """What `restore` takes: Ray 1 wants the file `checkpoint-10` in the folder, Ray 2 the folder."""
    for name in sorted(os.listdir(folder)):
        if FILE.match(name):
            return os.path.join(folder, name)
    return folder


def from_channel(folder):
    """The checkpoint in a channel: of Tune's layout, of an exported model, or the folder itself; else None."""
    found = checkpoints(folder)
    if found:
        return inside(found[-1])
    exported = os.path.join(folder, "checkpoint")
    if os.path.exists(exported):
        return exported
    for name in sorted(os.listdir(folder)):
        if FILE.match(name):
            return os.path.join(folder, name)
        if name.startswith(("rllib_checkpoint", "algorithm_state")):
            return folder
    return None


def export(checkpoint, model, staged=None):
    """Copy a checkpoint folder and its trial's params.json to the model folder.

    Ray 2 writes a trial's files into a folder of its own (`staged`), and carries them to the checkpoints now and then.

    Of Ray 2 it becomes the folder `checkpoint`, of Ray 1 the files `checkpoint` and `checkpoint.tune_metadata`, as
    scripts that load such models know them.
    """
    os.makedirs(model, exist_ok=True)
    file = inside(checkpoint)
    target = os.path.join(model, "checkpoint")
    if file == checkpoint:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(checkpoint, target)
    else:
        shutil.copyfile(file, target)
        if os.path.exists(file + ".tune_metadata"):
            shutil.copyfile(file + ".tune_metadata", target + ".tune_metadata")
    for folder in (os.path.dirname(checkpoint), staged):
        params = os.path.join(folder, "params.json") if folder else ""
        if os.path.exists(params):
            shutil.copyfile(params, os.path.join(model, "params.json"))
            break
    return target
