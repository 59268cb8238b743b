"""``python -m tutelage``: the command."""

from tutelage.cli import main

main()
