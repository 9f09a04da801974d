"""``python -m pagein``: the command, where its script is not installed."""

from .cli import main

main()
