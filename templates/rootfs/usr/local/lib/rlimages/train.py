"""Run the `train` program of SageMaker's training toolkit with corrections.

    train.py PATH_OF_TRAIN [ARGUMENT...]

The corrections save a job's start-up time, its checkpoint or the reason of its failure. The modules of `rlimages_train`
explain each of them. If `train` belongs to no known training toolkit, only the handling of SIGTERM changes: `train`
ends after the processes that it started, not before.
"""

import os
import runpy
import sys

from rlimages_train import failure_file, host_names, lazy_imports, script_output, signals, training_toolkit


def main():
    """Correct the toolkit's modules, then run the program that the first command line argument names in this process.

    Exits with the status of JobStopped if SIGTERM arrives before the toolkit runs.
    """
    signals.handle_sigterm()
    del sys.argv[0]
    # Python does the same when it is started with the program itself.
    sys.path[0] = os.path.dirname(sys.argv[0])
    try:
        package = training_toolkit.find_package(sys.argv[0])
        if package is not None:
            lazy_imports.defer_imports()
            toolkit = training_toolkit.TrainingToolkit(package)
            lazy_imports.avoid_tensorflow_import(toolkit)
            script_output.capture_stderr(toolkit)
            failure_file.improve_reports(toolkit)
            host_names.limit_wait(toolkit)
        runpy.run_path(sys.argv[0], run_name="__main__")
    except signals.JobStopped as error:  # the toolkit does not run yet, so it cannot report this
        sys.stderr.write("rlimages: %s\n" % error)
        sys.exit(error.errno)


if __name__ == "__main__":
    main()
