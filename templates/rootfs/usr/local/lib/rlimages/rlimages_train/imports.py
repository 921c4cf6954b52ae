"""Spare a job the imports that its launcher does not need: they come before the first line of every script."""

import importlib.util
import os
import re
import sys

UNUSED = ("paramiko",)
"""Only jobs under MPI open an SSH connection: 0.08 s."""


def spare(package):
    """Import what the toolkit rarely uses when it is used. Before anything of the toolkit is imported."""
    if hasattr(importlib.util, "LazyLoader"):
        for name in UNUSED:
            _import_when_used(name)


def _import_when_used(name):
    spec = importlib.util.find_spec(name)
    if spec is None or name in sys.modules:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def name_tensorflow_errors(toolkit):
    """Replace the one function of the toolkit that imports TensorFlow, to list its exceptions: 2 s."""
    # Toolkits before sagemaker_training 4.2 have none.
    if hasattr(toolkit.process, "get_tensorflow_exception_classes"):
        names = _tensorflow_errors()
        if names:
            toolkit.process.get_tensorflow_exception_classes = lambda: list(names)


def _tensorflow_errors():
    """The classes of tensorflow.python.framework.errors_impl, and the one of XLA that the toolkit adds; or none."""
    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, "python", "framework", "errors_impl.py")
        if os.path.isfile(path):
            with open(path, "rb") as stream:
                names = re.findall(rb"^class (\w+)", stream.read(), re.MULTILINE)
            return [name.decode() for name in names] + ["XlaRuntimeError"]
    return []
