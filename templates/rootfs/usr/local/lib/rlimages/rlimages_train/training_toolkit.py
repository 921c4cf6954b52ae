"""Import SageMaker's training toolkit: sagemaker_training, or its predecessor sagemaker_containers."""

import importlib
import re


def find_package(program):
    """Return the name of the toolkit's package that the console script at the path `program` starts.

    Returns `sagemaker_training` or `sagemaker_containers`; None for any other program.
    """
    with open(program, "rb") as stream:
        match = re.search(rb"sagemaker[-_](training|containers)\b", stream.read(4096))
    return "sagemaker_" + match.group(1).decode() if match else None


class TrainingToolkit:
    """The toolkit's modules that decide how a job starts and ends, imported from `package`, one of the two packages.

    The attributes have the same names for both packages: sagemaker_containers 2.5 to 2.8 and sagemaker_training 3.6 to
    5.1 name their modules differently. The code that `rlimages_train` corrects is the same in all of them.
    """

    def __init__(self, package):
        prefix = package + ("._" if package == "sagemaker_containers" else ".")
        self.entry_point = importlib.import_module(package + ".entry_point")
        self.environment = importlib.import_module(prefix + ("env" if prefix.endswith("_") else "environment"))
        self.errors = importlib.import_module(prefix + "errors")
        self.files = importlib.import_module(prefix + "files")
        self.process = importlib.import_module(prefix + "process")
