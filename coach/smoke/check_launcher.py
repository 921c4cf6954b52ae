"""A script on `sagemaker_rl` trains a preset: hyperparameters take effect, the model is there, and a job goes on."""

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
    """One job; what it printed. Raises SystemExit if it failed."""
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
        print("the script ended with {}".format(ended.returncode))
        sys.exit(1)
    return ended.stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "checkpoints"))
        said = train(folder)
        episodes = len(REWARD.findall(said))
        if not episodes:
            print("the metric definition finds no reward")
            return 1
        # Warming up, which counts apart, and the iteration at the end of which the count is looked at.
        if episodes > 5 * EPISODES or "learning_rate = 0.0005" not in said:
            print("{} episodes were played where {} were asked for".format(episodes, EPISODES))
            return 1
        model = os.path.join(folder, "model", "checkpoint")
        if not os.path.isdir(model) or not os.listdir(model):
            print("there is no checkpoint in the model folder")
            return 1
        if "continues from" not in train(folder):
            print("a second job with the checkpoints of the first starts anew")
            return 1
    print("{} episodes, a model, and a second job that went on".format(episodes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
