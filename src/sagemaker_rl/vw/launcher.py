"""Train a contextual bandit with Vowpal Wabbit from logged decisions, and save it for serving.

    from sagemaker_rl.vw_launcher import train

    if __name__ == "__main__":
        train()

Hyperparameters: `num_actions`; `exploration_policy`, VW's options for exploration (default `--epsilon 0.1`); `vw_args`,
further options; `passes`. Channels: `train` (or `training`) with CSV, JSON lines or VW files, see
sagemaker_rl.vw.examples; and `pretrained_model` with a model to continue from: vw.model, or the model.tar.gz of an
earlier job.

The model folder gets `vw.model` and `vw.metadata`. The second holds the options that a server passes to VW.
"""

import os
import shlex
import shutil
import sys
import tarfile
import tempfile

from sagemaker_rl.hyperparameters import parse_value
from sagemaker_rl.job import Job
from sagemaker_rl.vw import examples as vw_examples

MODEL, METADATA = "vw.model", "vw.metadata"
EXPLORATION = "--epsilon 0.1"


class TrainingError(Exception):
    """A hyperparameter or a channel is missing or invalid."""


def metadata(actions, exploration=EXPLORATION, more="", version=(8, 7)):
    """Return VW's command line options for a policy over `actions` actions: the content of vw.metadata.

    `exploration` are VW's options for exploration, and `more` further ones. `version` is the version of VW as a tuple
    of numbers.
    """
    return " ".join(
        ["--cb_explore {}".format(actions)] + [words for words in (legacy(version), exploration, more) if words]
    )


def legacy(version):
    """Return the option with which VW of this `version` learns as versions before 8.11 do; before 8.11 an empty string.

    From 8.11 on, VW learns `--cb_explore` in another way, in which features that are bare numbers collide: the policy
    is then the same in every situation. With the option, VW also prints probabilities in the order of actions, as
    servers of such models expect.
    """
    return "--cb_force_legacy" if version >= (8, 11) else ""


def installed():
    """Return the first two numbers of the installed version of VW, such as (8, 11).

    Returns (8, 7) if the package has no version, as those of that time.
    """
    import vowpalwabbit

    version = getattr(vowpalwabbit, "__version__", "8.7")
    return tuple(int(number) for number in version.split(".")[:2])


def find_pretrained(folder):
    """Return the path of the file vw.model in `folder`, an input channel, or None if `folder` is None.

    If the channel has only a model.tar.gz, its model is unpacked into a temporary folder. Raises TrainingError if the
    channel has no model.
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
    raise TrainingError("the channel pretrained_model has neither {} nor a .tar.gz with one".format(MODEL))


def _unpack(archive, folder):
    """Extract vw.model and vw.metadata from any folder of `archive`, a .tar.gz file, into `folder`.

    Returns the path of the extracted model, or None if the archive has none.
    """
    with tarfile.open(archive) as members:
        for member in members:
            name = os.path.basename(member.name)
            if member.isfile() and name in (MODEL, METADATA):
                with members.extractfile(member) as source, open(os.path.join(folder, name), "wb") as copy:
                    shutil.copyfileobj(source, copy)
    path = os.path.join(folder, MODEL)
    return path if os.path.exists(path) else None


def options_of(model, requested):
    """Return VW's options in the vw.metadata beside the file `model`, or `requested` if there is no vw.metadata.

    `model` is the path of a pretrained vw.model. Prints the options if they differ from `requested`.
    """
    path = os.path.join(os.path.dirname(model), METADATA)
    if not os.path.exists(path):
        return requested
    with open(path) as stream:
        options = stream.read().strip()
    if options != requested:
        print("the pretrained model keeps its own options: {}".format(options))
    return options


class Learner:
    """A policy that learns from one example at a time with VW's library, of any version from 8.7 on.

    It has VW's command line options `options`, or continues from the file `initial`, a model with options of its own.
    """

    def __init__(self, options, initial=None):
        from vowpalwabbit import pyvw

        # The class was renamed in version 9; models of both are the same.
        workspace = getattr(pyvw, "Workspace", None) or pyvw.vw
        self.options = options
        # A saved model contains its options, except the one for the former way of learning.
        words = "-i {} {}".format(shlex.quote(initial), legacy(installed())) if initial else options
        self._model = workspace(words + " --quiet --save_resume")

    def learn(self, line):
        """Learn from `line`, one example in VW's format."""
        # Not learn(line): version 8.7 then leaks 27 KB for each line.
        example = self._model.example(line)
        self._model.learn(example)
        self._model.finish_example(example)

    def probabilities(self, observation):
        """Return the probability of each action for `observation`, a list of numbers, in the order of actions."""
        example = self._model.example(vw_examples.features(observation))
        chances = list(self._model.predict(example))
        self._model.finish_example(example)
        return chances

    def save(self, folder):
        """Write vw.model and vw.metadata to `folder`, which is created if needed, and end the learner."""
        os.makedirs(folder, exist_ok=True)
        self._model.save(os.path.join(folder, MODEL))
        with open(os.path.join(folder, METADATA), "w") as stream:
            stream.write(self.options)
        self._model.finish()


def train(job=None):
    """Run one training job with its hyperparameters and channels, and write the model to the job's model folder.

    `job` is a Job, by default that of this process's environment. Returns the number of examples that were learned
    from, each counted once in every pass. Raises TrainingError or ExamplesError if the job cannot be run as configured.
    """
    job = job or Job()
    requested = {name: parse_value(value) for name, value in job.hyperparameters.items()}
    folder = job.channel("train") or job.channel("training")
    if folder is None:
        raise TrainingError("the job has no channel 'train' with decisions to learn from")
    actions = requested.get("num_actions")
    if not isinstance(actions, int) or actions < 1:
        raise TrainingError("the hyperparameter num_actions must be the number of actions, not {!r}".format(actions))
    options = metadata(
        actions, requested.get("exploration_policy", EXPLORATION), requested.get("vw_args", ""), installed()
    )
    initial = find_pretrained(job.channel("pretrained_model"))
    learner = Learner(options_of(initial, options) if initial else options, initial)
    count = 0
    for _ in range(int(requested.get("passes", 1))):
        for line in vw_examples.read(folder, actions):
            learner.learn(line)
            count += 1
    if not count:
        raise TrainingError("the channel 'train' holds no examples")
    learner.save(job.model)
    print("learned from {} examples; {} and {} are in {}".format(count, MODEL, METADATA, job.model))
    sys.stdout.flush()
    return count
