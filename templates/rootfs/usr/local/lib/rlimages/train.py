"""Run the toolkit's own `train`, mending what would cost a job its time, its checkpoint or the reason of its failure.

    train.py PATH_OF_TRAIN [ARGUMENT...]

What is mended, and why, stands in the modules of `rlimages_train`. A `train` of no known toolkit runs as it is, but for
SIGTERM, which ends it when the processes that it has started have ended, not before.
"""

import os
import runpy
import sys

from rlimages_train import failure, hosts, imports, script, signals, toolkit


def main():
    signals.listen()
    del sys.argv[0]
    # As if Python had been started with the program itself.
    sys.path[0] = os.path.dirname(sys.argv[0])
    try:
        package = toolkit.package_of(sys.argv[0])
        if package is not None:
            imports.spare()
            found = toolkit.Toolkit(package)
            imports.name_tensorflow_errors(found)
            script.listen(found)
            failure.explain(found)
            hosts.limit(found)
        runpy.run_path(sys.argv[0], run_name="__main__")
    except signals.Stopped as error:  # before the toolkit was ready to report it
        sys.stderr.write("rlimages: %s\n" % error)
        sys.exit(error.errno)


if __name__ == "__main__":
    main()
