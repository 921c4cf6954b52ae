"""Export the policy of a model folder for who has no Ray.

Of TensorFlow it becomes a SavedModel in the folder `1`, as TensorFlow Serving wants it; of RLlib's new API stack
`policy.pt2`, for `torch.export.load`.

    python -m sagemaker_rl.ray.export /opt/ml/model

It runs in a process of its own: what trained has its own TensorFlow, in its own mode, and may be about to be stopped.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

SAVED_MODEL = "1"  # TensorFlow Serving serves the highest number
PROGRAM = "policy.pt2"
SECONDS = 90  # a stopped job has 120 s


def _name(model):
    return PROGRAM if os.path.isdir(os.path.join(model, "checkpoint", "learner_group")) else SAVED_MODEL


def wanted(model):
    """Whether the model is one of the new API stack, or of TensorFlow: the image's, and the experiment's."""
    if _name(model) == PROGRAM:
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
    """Export in another process. What is there now, as a sentence for the log."""
    target = os.path.join(model, _name(model))
    reason = "no {}: ".format("SavedModel" if _name(model) == SAVED_MODEL else PROGRAM)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", __name__, model],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=SECONDS,
            # What the script can import, its policy may name.
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
        )
    except subprocess.TimeoutExpired:
        _clear(target)
        return "{}it took more than {} s".format(reason, SECONDS)
    if ended.returncode:
        _clear(target)
        said = [line for line in ended.stdout.strip().split("\n") if line]
        return reason + (said[-1] if said else "the exporter ended with {}".format(ended.returncode))
    return "exported: {}".format(target)


def _clear(target):
    shutil.rmtree(target, ignore_errors=True)
    if os.path.isfile(target):
        os.remove(target)


def main(model):
    """Load the policy and export it."""
    from sagemaker_rl.ray import files as ray_files

    target = os.path.join(model, _name(model))
    _clear(target)
    {SAVED_MODEL: _saved_model, PROGRAM: _program}[_name(model)](ray_files.from_channel(model), target)


def _program(checkpoint, target):
    """The module's answer to a batch of observations, as its connectors would give them: the action distribution's."""
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
    """What RLlib itself exports of a policy of TensorFlow."""
    from sagemaker_rl.ray import policy as ray_policy

    policy = ray_policy.load(checkpoint).policy
    _track(policy.model)
    policy.export_model(target)
    if not os.path.exists(os.path.join(target, "saved_model.pb")):
        raise SystemExit("RLlib exports no graph of a {}".format(type(policy).__name__))
    # A log of the session that some versions leave there.
    for name in os.listdir(target):
        if name.startswith("events.out"):
            os.remove(os.path.join(target, name))


def _track(model):
    """Let Keras see the variables that RLlib keeps beside a network, as `free_log_std` has one, and save it."""
    network = getattr(model, "base_model", None)
    if network is not None:
        network.kept_beside = [value for value in vars(model).values() if type(value).__name__.endswith("Variable")]


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # noqa: BLE001 - whatever it is, its last line is the reason
        print("{}: {}".format(type(error).__name__, str(error).strip().split("\n")[0]))
        sys.exit(1)
