"""Export the policy of a model folder for programs that have no Ray.

A policy of TensorFlow becomes a SavedModel in the folder `1`, the layout of TensorFlow Serving. A module of RLlib's new
API stack becomes `policy.pt2`, for `torch.export.load`.

    python -m sagemaker_rl.ray.export /opt/ml/model

The export runs in a process of its own: the training process has TensorFlow in another mode, and may be about to be
stopped.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

SAVED_MODEL = "1"  # TensorFlow Serving serves the highest version number
PROGRAM = "policy.pt2"
EXPORT_SECONDS = 90  # SageMaker kills a stopped job after 120 s


def _target_name(model):
    return PROGRAM if os.path.isdir(os.path.join(model, "checkpoint", "learner_group")) else SAVED_MODEL


def is_exportable(model):
    """Return whether the policy in the model folder `model` can be exported.

    It can if it is one of RLlib's new API stack or one of TensorFlow. For TensorFlow, the experiment must use it and
    the image must have it.
    """
    if _target_name(model) == PROGRAM:
        return True
    params = os.path.join(model, "params.json")
    if not os.path.exists(params):
        return False
    with open(params) as stream:
        settings = json.load(stream)
    if settings.get("use_pytorch") or settings.get("framework", "tf") not in ("tf", "tf2", "tfe"):
        return False
    return importlib.util.find_spec("tensorflow") is not None


def export(model):
    """Export the policy in the model folder `model` to that folder, in another process.

    Returns a sentence for the log: what was written, or why nothing was.
    """
    target = os.path.join(model, _target_name(model))
    reason = "no {}: ".format("SavedModel" if _target_name(model) == SAVED_MODEL else PROGRAM)
    try:
        process = subprocess.run(
            [sys.executable, "-m", __name__, model],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=EXPORT_SECONDS,
            # The policy may refer to modules that the training script can import.
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
        )
    except subprocess.TimeoutExpired:
        _clear(target)
        return "{}it took more than {} s".format(reason, EXPORT_SECONDS)
    if process.returncode:
        _clear(target)
        output = [line for line in process.stdout.strip().split("\n") if line]
        return reason + (output[-1] if output else "the exporter ended with {}".format(process.returncode))
    return "exported: {}".format(target)


def _clear(target):
    shutil.rmtree(target, ignore_errors=True)
    if os.path.isfile(target):
        os.remove(target)


def main(model):
    """Load the policy in the model folder `model` and export it to that folder, in this process."""
    from sagemaker_rl.ray import files as ray_files

    target = os.path.join(model, _target_name(model))
    _clear(target)
    {SAVED_MODEL: _saved_model, PROGRAM: _program}[_target_name(model)](ray_files.find_checkpoint(model), target)


def _program(checkpoint, target):
    """Write the module in the folder `checkpoint` to the file `target`, as a program for `torch.export.load`.

    It maps a batch of observations, as the module's connectors produce them, to the inputs of the action distribution.
    Ends with SystemExit if the module has a memory or observations of several arrays.
    """
    import torch

    from sagemaker_rl.ray import module as ray_module

    loaded = ray_module.load(checkpoint)
    if loaded.initial_state or not getattr(loaded.module.observation_space, "shape", None):
        raise SystemExit("only a policy without a memory, on observations of one array, is exported")

    class Answer(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, observations):
            return self.module.forward_inference({"obs": observations})["action_dist_inputs"]

    example = torch.zeros((2,) + loaded.module.observation_space.shape)
    program = torch.export.export(Answer(loaded.module), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, target)


def _saved_model(checkpoint, target):
    """Write what RLlib itself exports of the TensorFlow policy in `checkpoint` to the folder `target`.

    Ends with SystemExit if RLlib exports no graph of it.
    """
    from sagemaker_rl.ray import policy as ray_policy

    policy = ray_policy.load(checkpoint).policy
    _track(policy.model)
    policy.export_model(target)
    if not os.path.exists(os.path.join(target, "saved_model.pb")):
        raise SystemExit("RLlib exports no graph of a {}".format(type(policy).__name__))
    # Some versions of RLlib leave TensorBoard logs of the session there.
    for name in os.listdir(target):
        if name.startswith("events.out"):
            os.remove(os.path.join(target, name))


def _track(model):
    """Make Keras save the variables that RLlib's `model` keeps beside its network, such as those of `free_log_std`."""
    network = getattr(model, "base_model", None)
    if network is not None:
        network.kept_beside = [value for value in vars(model).values() if type(value).__name__.endswith("Variable")]


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - the parent prints the last line of the output as the reason
        print("{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0]))
        sys.exit(1)
