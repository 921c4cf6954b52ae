"""Find the checkpoint to restore, and copy the files of an experiment that become the model. Imports no Ray."""

import os
import re
import shutil

FOLDER = re.compile(r"checkpoint_(\d+)$")
FILE = re.compile(r"checkpoint-\d+$")


def checkpoints(root):
    """Return the paths of all checkpoint folders below `root`, oldest first; those of one time are sorted by number."""
    checkpoint_folders = []
    for path, folders, _ in os.walk(root):
        for name in folders:
            number = FOLDER.match(name)
            if number and os.listdir(os.path.join(path, name)):
                folder = os.path.join(path, name)
                checkpoint_folders.append((os.path.getmtime(folder), int(number.group(1)), folder))
    return [folder for _, _, folder in sorted(checkpoint_folders)]


def restore_path(folder):
    """Return the path that Tune's `restore` takes for the checkpoint in `folder`.

    For Ray 1 it is the file in the folder, such as `checkpoint-10`; for Ray 2 it is `folder`.
    """
    for name in sorted(os.listdir(folder)):
        if FILE.match(name):
            return os.path.join(folder, name)
    return folder


def find_checkpoint(folder):
    """Return the path of the checkpoint in `folder`, an input channel or model folder, or None if there is none.

    `folder` may have Tune's layout, an exported model in `checkpoint`, or be a checkpoint itself.
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
    """Copy the folder `checkpoint` and its trial's params.json to the folder `model`. Return the path of the copy.

    For Ray 2 the copy is the folder `checkpoint`; for Ray 1 it is the files `checkpoint` and
    `checkpoint.tune_metadata`, as existing scripts that load these models expect them. Ray 2 writes a trial's files to
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
