"""``python -m pagein.cli``: the command, where its script is not installed."""

from . import main

main()
