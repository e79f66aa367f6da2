"""``python -m remediator`` is the console script."""

from remediator.cli import main

main()
