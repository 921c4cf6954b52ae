"""Read a training job's environment: hosts, processors, channels and folders; write the reason of its failure."""

import contextlib
import json
import multiprocessing
import os

REASON = 1023  # SageMaker shows 1024 characters of a failure's reason; one is the newline


def _number(text, default):
    try:
        return int(text)
    except (TypeError, ValueError):
        return default


def _json_file(path):
    if not os.path.isfile(path):
        return {}
    with open(path) as stream:
        return json.load(stream)


class Job:
    """One host's view of a training job.

    `environ` is the environment that `train` gives to a script (SM_HOSTS, SM_HPS, ...). What is missing there is read
    from the files under SAGEMAKER_BASE_DIR. Without these files, the job has this one host.
    """

    def __init__(self, environ=None):
        environ = os.environ if environ is None else environ
        self.base = environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
        config = os.path.join(self.base, "input", "config")
        if "SM_RESOURCE_CONFIG" in environ:
            self.resources = json.loads(environ["SM_RESOURCE_CONFIG"])
        else:
            self.resources = _json_file(os.path.join(config, "resourceconfig.json"))
        self.host = environ.get("SM_CURRENT_HOST") or self.resources.get("current_host") or "localhost"
        if "SM_HOSTS" in environ:
            self.hosts = json.loads(environ["SM_HOSTS"])
        else:
            self.hosts = self.resources.get("hosts") or [self.host]
        self.num_cpus = _number(environ.get("SM_NUM_CPUS"), multiprocessing.cpu_count())
        self.num_gpus = _number(environ.get("SM_NUM_GPUS"), 0)
        self.hyperparameters = json.loads(environ.get("SM_HPS") or "{}")
        self.model = environ.get("SM_MODEL_DIR") or os.path.join(self.base, "model")
        self.output = environ.get("SM_OUTPUT_DATA_DIR") or os.path.join(self.base, "output", "data")
        self.intermediate = environ.get("SM_OUTPUT_INTERMEDIATE_DIR") or os.path.join(
            self.base, "output", "intermediate"
        )
        self._environ = environ

    @property
    def head(self):
        """The name of the leading host: the first in natural order, so that all hosts choose the same one."""
        return sorted(self.hosts, key=_natural)[0]

    @property
    def is_head(self):
        """Whether this host is the leading one."""
        return self.host == self.head

    @property
    def checkpoints(self):
        """The folder for checkpoints: the one that SageMaker synchronizes with S3, if the job has it."""
        folder = os.path.join(self.base, "checkpoints")
        return folder if os.path.isdir(folder) else self.intermediate

    def channel(self, name):
        """Return the folder of the input channel `name`, or None if the job has no such channel."""
        path = self._environ.get("SM_CHANNEL_" + name.upper()) or os.path.join(self.base, "input", "data", name)
        return path if os.path.isdir(path) else None

    def fail(self, sentence):
        """Write `sentence`, the reason of the failure, to the file that SageMaker reads. An existing file is kept."""
        path = os.path.join(self.base, "output", "failure")
        if not os.path.exists(path):
            with open(path, "w") as stream:
                stream.write(sentence[:REASON] + "\n")

    @contextlib.contextmanager
    def reasons(self):
        """Write an exception that leaves the block as the job's failure reason, and raise it again.

        Older `train` programs write no reason.
        """
        try:
            yield
        except Exception as error:
            self.fail("{}: {}".format(type(error).__name__, error))
            raise


def _natural(host):
    """Return the sort key of the name `host`, so that `algo-10` comes after `algo-2`."""
    stem = host.rstrip("0123456789")
    return stem, _number(host[len(stem) :], -1)
