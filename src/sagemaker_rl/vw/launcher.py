"""Train a contextual bandit with Vowpal Wabbit from logged decisions, and save it for serving.

    from sagemaker_rl.vw.launcher import train

    if __name__ == "__main__":
        train()

Hyperparameters: `num_actions`; `exploration_policy`, any of VW's options (`--epsilon 0.1`, the default); `vw_args` for
more of them; `passes`. Channels: `train` (or `training`) with CSV, JSON lines or VW files, see vw_examples; and
`pretrained_model`, with a model to go on from: vw.model, or the model.tar.gz of an earlier job.

The model folder gets `vw.model` and `vw.metadata`: the second holds the command line that a server gives to `vw`.
"""

import os
import shlex
import shutil
import sys
import tarfile
import tempfile

from sagemaker_rl.hyperparameters import typed
from sagemaker_rl.job import Job
from sagemaker_rl.vw import examples as vw_examples

MODEL, METADATA = "vw.model", "vw.metadata"
EXPLORATION = "--epsilon 0.1"


class TrainingError(Exception):
    """A hyperparameter or a channel is missing, or is not what it should be."""


def metadata(actions, exploration=EXPLORATION, more="", version=(8, 7)):
    """The options of a policy over `actions` actions, as vw.metadata holds them, for a VW of that version."""
    return " ".join(
        ["--cb_explore {}".format(actions)] + [words for words in (legacy(version), exploration, more) if words]
    )


def legacy(version):
    """The option that makes VW answer `0.9 0.1`, in the order of actions, as servers of such models read it.

    From 8.11 on VW learns `--cb_explore` in another way, in which features that are bare numbers collide: the policy
    is the same in every situation. The option brings the former way back.
    """
    return "--cb_force_legacy" if version >= (8, 11) else ""


def installed():
    """The version of VW, as numbers; 8.7 where the package does not say, as no package of that time does."""
    import vowpalwabbit

    version = getattr(vowpalwabbit, "__version__", "8.7")
    return tuple(int(number) for number in version.split(".")[:2])


def find_pretrained(folder):
    """The path of vw.model in a channel, unpacking a model.tar.gz into a temporary folder; None without a channel.

    Raises TrainingError if the channel holds no model.
    """
    if folder is None:
        return None
    for path, _, names in sorted(os.walk(folder)):
        if MODEL in names:
            return os.path.join(path, MODEL)
        for name in sorted(names):
            if name.endswith(".tar.gz"):
                target = _unpack(os.path.join(path, name), tempfile.mkdtemp())
                if target:
                    return target
    raise TrainingError("the channel pretrained_model holds neither {} nor a .tar.gz with one".format(MODEL))


def _unpack(archive, folder):
    """The two files of a model, by their names, wherever in the archive they are; the model's path, or None."""
    with tarfile.open(archive) as members:
        for member in members:
            name = os.path.basename(member.name)
            if member.isfile() and name in (MODEL, METADATA):
                with members.extractfile(member) as source, open(os.path.join(folder, name), "wb") as copy:
                    shutil.copyfileobj(source, copy)
    path = os.path.join(folder, MODEL)
    return path if os.path.exists(path) else None


def options_of(model, asked):
    """The options of a pretrained model: those of vw.metadata beside it; without that file, those asked for."""
    path = os.path.join(os.path.dirname(model), METADATA)
    if not os.path.exists(path):
        return asked
    with open(path) as stream:
        own = stream.read().strip()
    if own != asked:
        print("the pretrained model keeps its own options: {}".format(own))
    return own


class Learner:
    """A policy that learns line by line: VW's library, in whichever version the image has."""

    def __init__(self, options, initial=None):
        from vowpalwabbit import pyvw

        # The class was renamed in version 9; both write the same models.
        workspace = getattr(pyvw, "Workspace", None) or pyvw.vw
        self.options = options
        # A model brings its own options along; only other ones are repeated.
        words = "-i {} {}".format(shlex.quote(initial), legacy(installed())) if initial else options
        self._model = workspace(words + " --quiet --save_resume")

    def learn(self, line):
        """Learn from one example."""
        # Not learn(line): of each text that it reads itself, version 8.7 keeps 27 KB.
        example = self._model.example(line)
        self._model.learn(example)
        self._model.finish_example(example)

    def probabilities(self, observation):
        """The probability of each action, in their order."""
        example = self._model.example(vw_examples.features(observation))
        chances = list(self._model.predict(example))
        self._model.finish_example(example)
        return chances

    def save(self, folder):
        """Write vw.model and vw.metadata."""
        os.makedirs(folder, exist_ok=True)
        self._model.save(os.path.join(folder, MODEL))
        with open(os.path.join(folder, METADATA), "w") as stream:
            stream.write(self.options)
        self._model.finish()


def train(job=None):
    """One training job, by its hyperparameters and channels; returns the number of examples learned from."""
    job = job or Job()
    asked = {name: typed(value) for name, value in job.hyperparameters.items()}
    folder = job.channel("train") or job.channel("training")
    if folder is None:
        raise TrainingError("the job has no channel 'train' with decisions to learn from")
    actions = asked.get("num_actions")
    if not isinstance(actions, int) or actions < 1:
        raise TrainingError("the hyperparameter num_actions is the number of actions, not {!r}".format(actions))
    options = metadata(actions, asked.get("exploration_policy", EXPLORATION), asked.get("vw_args", ""), installed())
    initial = find_pretrained(job.channel("pretrained_model"))
    learner = Learner(options_of(initial, options) if initial else options, initial)
    count = 0
    for _ in range(int(asked.get("passes", 1))):
        for line in vw_examples.read(folder, actions):
            learner.learn(line)
            count += 1
    if not count:
        raise TrainingError("the channel 'train' holds no examples")
    learner.save(job.model)
    print("learned from {} examples; {} and {} are in {}".format(count, MODEL, METADATA, job.model))
    sys.stdout.flush()
    return count
