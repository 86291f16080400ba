"""`python -m faregate.cli` is the command `faregate`."""

from faregate.cli import main

main()
