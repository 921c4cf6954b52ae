"""Defer or avoid imports that the training toolkit does not need, so that the script starts sooner."""

import importlib
import importlib.util
import os
import re
import sys
import types

DEFERRED = ("paramiko", "psutil")
"""Modules that only jobs under MPI use, to open SSH connections and to find processes. Their import takes 0.09 s."""


class _DeferredModule(types.ModuleType):
    """A placeholder for a module. It imports the module when one of its attributes is read.

    `importlib.util.LazyLoader` does not fit: before Python 3.12 it imports the module at the next `import` of its name.
    """

    def __getattr__(self, name):
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def defer_imports():
    """Defer the import of the modules in DEFERRED until they are used. Call this before the toolkit is imported."""
    for name in DEFERRED:
        sys.modules.setdefault(name, _DeferredModule(name))


def avoid_tensorflow_import(toolkit):
    """Replace the function of `toolkit`, a TrainingToolkit, that imports TensorFlow only to list its exceptions.

    The import takes 2 s.
    """
    # sagemaker_training has this function since version 4.2.
    if hasattr(toolkit.process, "get_tensorflow_exception_classes"):
        names = _read_tensorflow_error_names()
        if names:
            toolkit.process.get_tensorflow_exception_classes = lambda: list(names)


def _read_tensorflow_error_names():
    """Return a list of the class names in the source of tensorflow.python.framework.errors_impl, without importing it.

    The toolkit also adds an error of XLA to its list. The list is empty if TensorFlow is not installed.
    """
    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, "python", "framework", "errors_impl.py")
        if os.path.isfile(path):
            with open(path, "rb") as stream:
                names = re.findall(rb"^class (\w+)", stream.read(), re.MULTILINE)
            return [name.decode() for name in names] + ["XlaRuntimeError"]
    return []
