"""The toolkit behind `train`: sagemaker_training, or its predecessor sagemaker_containers, in one vocabulary."""

import importlib
import re


def package_of(program):
    """The name of the package that a console script starts; None for a program of another kind."""
    with open(program, "rb") as stream:
        found = re.search(rb"sagemaker[-_](training|containers)\b", stream.read(4096))
    return "sagemaker_" + found.group(1).decode() if found else None


class Toolkit:
    """The modules of a toolkit that decide how a job starts and ends.

    sagemaker_containers 2.5 to 2.8 and sagemaker_training 3.6 to 5.1 differ in their modules' names, not in what is
    mended here.
    """

    def __init__(self, package):
        own = package + ("._" if package == "sagemaker_containers" else ".")
        self.entry_point = importlib.import_module(package + ".entry_point")
        self.environment = importlib.import_module(own + ("env" if own.endswith("_") else "environment"))
        self.errors = importlib.import_module(own + "errors")
        self.files = importlib.import_module(own + "files")
        self.process = importlib.import_module(own + "process")
