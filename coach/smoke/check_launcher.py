"""Check Coach's launcher: hyperparameters take effect, a model is saved, and a second job continues."""

import json
import os
import re
import subprocess
import sys
import tempfile

EPISODES, SECONDS = 120, 150
REWARD = re.compile(r"^Training>.*Total reward=(.*?),", re.MULTILINE)

SCRIPT = """
from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher

class Launcher(SageMakerCoachPresetLauncher):
    def default_preset_name(self):
        return "CartPole_DQN"

    def map_hyperparameter(self, name, value):
        self.apply_hyperparameter({"rl.agent_params.network_wrappers.main." + name: value})

if __name__ == "__main__":
    Launcher.train_main()
"""


def train(folder):
    """Run one job and return its output. Raise SystemExit if it fails."""
    script = os.path.join(folder, "train.py")
    with open(script, "w") as stream:
        stream.write(SCRIPT)
    asked = {
        "RLCOACH_PRESET": "CartPole_ClippedPPO",
        "save_model": 1,
        "seed": 1,
        "learning_rate": 0.0005,
        "rl.improve_steps:EnvironmentEpisodes": EPISODES,
        "rl.evaluation_steps:EnvironmentEpisodes": 1,
    }
    environment = dict(os.environ, SAGEMAKER_BASE_DIR=folder, SM_HPS=json.dumps(asked), HOME=folder)
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
        print("the training script ended with {}".format(ended.returncode))
        sys.exit(1)
    return ended.stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "checkpoints"))
        said = train(folder)
        episodes = len(REWARD.findall(said))
        if not episodes:
            print("the metric definition matches no line of the log")
            return 1
        # More episodes than asked for are normal: the warm-up does not count, and Coach compares the count only at the
        # end of an iteration.
        if episodes > 5 * EPISODES or "learning_rate = 0.0005" not in said:
            print(
                "{} episodes were played, {} were asked for, or the learning rate was not set".format(
                    episodes, EPISODES
                )
            )
            return 1
        model = os.path.join(folder, "model", "checkpoint")
        if not os.path.isdir(model) or not os.listdir(model):
            print("the model folder has no checkpoint")
            return 1
        if "continues from" not in train(folder):
            print("a second job does not continue from the checkpoints of the first")
            return 1
    print("{} episodes, a model, and a second job that continued".format(episodes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
