"""Spare a job the imports that its launcher does not need: they come before the first line of every script."""

import importlib
import importlib.util
import os
import re
import sys
import types

UNUSED = ("paramiko", "psutil")
"""Only jobs under MPI open SSH connections and look for processes: 0.09 s."""


class _Later(types.ModuleType):
    """In the place of a module that is imported when something of it is asked for.

    Python's own LazyLoader imports it at the next `import` of its name, before Python 3.12.
    """

    def __getattr__(self, name):
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def spare():
    """Import what the toolkit rarely uses when it is used. Before anything of the toolkit is imported."""
    for name in UNUSED:
        sys.modules.setdefault(name, _Later(name))


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
