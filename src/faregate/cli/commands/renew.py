"""`faregate renew`: begins the new periods of idle users, by the policies of an application."""

from dataclasses import asdict
from typing import Annotated

import typer

from faregate.cli.conventions import Json, error_console, print_result
from faregate.cli.gates import ask, load_gate
from faregate.ops.renew import renew_all


def renew(
    gate: Annotated[str, typer.Argument(help="Your gate: package.module:attribute.")],
    *,
    as_json: Json = False,
) -> None:
    """Begin the new periods of idle users, to keep Postgres current.

    It is optional, and safe to run at any time, even several times at once.

    Example: faregate renew myapp.gates:gate
    """
    found = load_gate(gate)
    with error_console().status("renewing") as progress:
        result = ask(
            found,
            lambda opened: renew_all(opened, lambda done: progress.update(f"{done} users checked")),
        )
    print_result(asdict(result), as_json=as_json)
