"""Export the policy of a model folder as TensorFlow's SavedModel, in the folder `1`: TensorFlow Serving takes no other.

    python -m sagemaker_rl.ray_export /opt/ml/model

It runs in a process of its own: what trained has its own TensorFlow, in its own mode, and may be about to be stopped.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

VERSION = "1"  # TensorFlow Serving serves the highest number
SECONDS = 90  # a stopped job has 120 s
REASON = "no SavedModel: "


def wanted(model):
    """Whether the model is one of TensorFlow: the image has that, and the experiment did not ask for something else."""
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
    target = os.path.join(model, VERSION)
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
        shutil.rmtree(target, ignore_errors=True)
        return "{}it took more than {} s".format(REASON, SECONDS)
    if ended.returncode:
        shutil.rmtree(target, ignore_errors=True)
        said = [line for line in ended.stdout.strip().split("\n") if line]
        return REASON + (said[-1] if said else "the exporter ended with {}".format(ended.returncode))
    return "SavedModel in {}".format(target)


def main(model):
    """Load the policy, let RLlib export it, and leave nothing half done."""
    from sagemaker_rl import ray_files, ray_policy

    policy = ray_policy.load(ray_files.from_channel(model)).policy
    target = os.path.join(model, VERSION)
    shutil.rmtree(target, ignore_errors=True)
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
