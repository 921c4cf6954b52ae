"""`python -m rlimages`."""

from rlimages.cli import main

main()
