"""What all commands have in common: their exit codes, and how they print JSON."""

from typing import Annotated

import typer

EXIT_NOT_EXACT = 1
EXIT_WRONG_USE = 2
EXIT_BROKEN = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
