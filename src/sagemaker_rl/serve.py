"""Run the model server as `python -m sagemaker_rl.serve MODULE`: another name of the program `sagemaker_rl.serving`."""

import sys

from sagemaker_rl.serving.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
