"""Check Ray's launcher: hyperparameters take effect, metrics match, a model is saved, and a second job continues.

The script uses the names of Ray 1. The launcher translates names that this Ray calls differently.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

LR, SECONDS = 0.00025, 200
FLOAT = "[-+]?[0-9]*[.]?[0-9]+([eE][-+]?[0-9]+)?"
METRICS = ("episode_reward_mean: (%s)" % FLOAT, r"episode_reward_mean\s*(%s)" % FLOAT)

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

SCRIPT = """
from sagemaker_rl.ray_launcher import SageMakerRayLauncher

class Launcher(SageMakerRayLauncher):
    def get_experiment_config(self):
        return {
            "training": {
                "env": "CartPole-v%d",
                "run": "PPO",
                "stop": {"training_iteration": 100, "episode_reward_mean": 500},
                "config": {
                    %s
                    "lr": 0.01,
                    "num_workers": 1,
                    "num_sgd_iter": 2,
                    "sgd_minibatch_size": 64,
                    "train_batch_size": 400,
                },
            }
        }

if __name__ == "__main__":
    Launcher.train_main()
"""


def framework():
    """Return the line of the configuration that sets the image's framework; empty for Ray before 0.8."""
    name = CELL["framework"]["name"]
    if tuple(int(number) for number in CELL["version"].split(".")[:2]) < (0, 8):
        return ""
    return '"framework": "%s",' % {"tf": "tf", "torch": "torch"}[name]


def has_gymnasium():
    try:
        import gymnasium  # noqa: F401
    except ImportError:
        return False
    return True


def train(folder, iterations):
    """Run one job and return its output. Raise SystemExit if it fails."""
    script = os.path.join(folder, "train.py")
    with open(script, "w") as stream:
        stream.write(SCRIPT % (1 if has_gymnasium() else 0, framework()))
    asked = {"rl.training.config.lr": LR, "rl.training.stop.training_iteration": iterations}
    environment = dict(os.environ, SAGEMAKER_BASE_DIR=folder, SM_HPS=json.dumps(asked), SM_NUM_CPUS="2")
    ended = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=SECONDS,
    )
    print(ended.stdout)
    if ended.returncode:
        print("the training script ended with %d" % ended.returncode)
        sys.exit(1)
    return ended.stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "checkpoints"))
        said = train(folder, 1)
        with open(os.path.join(folder, "model", "params.json")) as stream:
            lr = json.load(stream)["lr"]
        if lr != LR:
            print("params.json has the learning rate %r; the hyperparameter is %r" % (lr, LR))
            return 1
        if not os.path.exists(os.path.join(folder, "model", "checkpoint")):
            print("the model folder has no checkpoint")
            return 1
        found = [re.findall(metric, said) for metric in METRICS]
        if not found[0] or (CELL["version"][0] != "0" and not found[1]):
            print("the two metric definitions match %d and %d values" % (len(found[0]), len(found[1])))
            return 1
        said = train(folder, 2)
        if "continues from" not in said:
            print("a second job does not continue from the checkpoints of the first")
            return 1
    print("learning rate %s in params.json, mean reward %s, a second job continued" % (lr, found[0][-1][0]))
    return 0


sys.exit(main())
