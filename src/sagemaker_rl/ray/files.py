"""Find the checkpoint to restore, and copy the files of an experiment that become the model. Imports no Ray."""

import os
import re
import shutil

FOLDER = re.compile(r"checkpoint_(\d+)$")
FILE = re.compile(r"checkpoint-\d+$")


def checkpoints(root):
    """Return all checkpoint folders below a folder, oldest first; those of the same time are sorted by number."""
    checkpoint_folders = []
    for path, folders, _ in os.walk(root):
        for name in folders:
            number = FOLDER.match(name)
            if number and os.listdir(os.path.join(path, name)):
                folder = os.path.join(path, name)
                checkpoint_folders.append((os.path.getmtime(folder), int(number.group(1)), folder))
    return [folder for _, _, folder in sorted(checkpoint_folders)]


def restore_path(folder):
    """Return the path that `restore` takes: for Ray 1 the file `checkpoint-10` in the folder, for Ray 2 the folder."""
    for name in sorted(os.listdir(folder)):
        if FILE.match(name):
            return os.path.join(folder, name)
    return folder


def find_checkpoint(folder):
    """Return the checkpoint in an input channel or model folder, or None.

    It may have Tune's layout, be an exported model, or be the folder itself.
    """
    checkpoint_folders = checkpoints(folder)
    if checkpoint_folders:
        return restore_path(checkpoint_folders[-1])
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
    """Copy a checkpoint folder and its trial's params.json to the model folder. Returns the path of the copy.

    For Ray 2 the copy is the folder `checkpoint`; for Ray 1 it is the files `checkpoint` and
    `checkpoint.tune_metadata`, as existing scripts that load such models expect them. Ray 2 writes a trial's files to
    another folder first (`staged`) and copies them to the checkpoints from time to time, so params.json may be in
    `staged` only.
    """
    os.makedirs(model, exist_ok=True)
    file = restore_path(checkpoint)
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
