"""Run the toolkit's own `train`, and mend two of its habits on the way.

    train.py PATH_OF_TRAIN [ARGUMENT...]

It dies of SIGTERM at once, and with it the container, while the training script, which gets the same signal, is still
writing its last checkpoint. Here it stays until the script has ended.

It imports TensorFlow, where that is installed, for the names of its exception classes: two seconds before the first
line of every training script. Here the names are read from TensorFlow's source.
"""

import ast
import importlib.util
import os
import runpy
import signal
import sys


def has_children():
    """Whether a process exists whose parent this is."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat") as stream:
                    # The second field is the program's name in parentheses, and may hold anything.
                    parent = stream.read().rpartition(")")[2].split()[1]
            except OSError:  # ended meanwhile
                continue
            if int(parent) == os.getpid():
                return True
    return False


def on_terminate(number, frame):
    """The script was signalled too, and how it ends is for the toolkit to report; before there is one, nothing is."""
    if not has_children():
        sys.exit(128 + number)


def tensorflow_exception_names():
    """The classes of tensorflow.python.framework.errors_impl, and the one of XLA that the toolkit adds; or none."""
    spec = importlib.util.find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, "python", "framework", "errors_impl.py")
        if os.path.isfile(path):
            with open(path, "rb") as stream:
                tree = ast.parse(stream.read())
            return [node.name for node in tree.body if isinstance(node, ast.ClassDef)] + ["XlaRuntimeError"]
    return None


def import_no_tensorflow():
    """Replace the one function of the toolkit that imports TensorFlow; older toolkits have none."""
    try:
        from sagemaker_training import process
    except ImportError:
        return
    if hasattr(process, "get_tensorflow_exception_classes"):
        names = tensorflow_exception_names()
        if names is not None:
            process.get_tensorflow_exception_classes = lambda: list(names)


def main():
    signal.signal(signal.SIGTERM, on_terminate)
    del sys.argv[0]
    # As if Python had been started with the program itself.
    sys.path[0] = os.path.dirname(sys.argv[0])
    import_no_tensorflow()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
