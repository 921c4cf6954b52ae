"""Run `python -m rlimages`."""

from rlimages.cli.main import main

main()
