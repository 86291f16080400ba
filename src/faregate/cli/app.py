"""The command line: the list of all commands, and how it ends.

Exit codes: 0 all is well, 1 the ledger is not exact, 2 wrong use, 3 something is broken.
"""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from faregate import __version__
from faregate.cli.commands import checks, credits, endings, health, setup, users
from faregate.cli.commands.access import access
from faregate.cli.commands.dead_letters import dead_letters
from faregate.cli.commands.dev import dev
from faregate.cli.commands.export import export
from faregate.cli.commands.forks import forks
from faregate.cli.commands.holds import holds
from faregate.cli.commands.init import init
from faregate.cli.commands.journal import journal
from faregate.cli.commands.keys import app as keys
from faregate.cli.commands.rebuild import rebuild, reopen
from faregate.cli.commands.renew import renew
from faregate.cli.commands.repair import acknowledge, repair
from faregate.cli.conventions import EXIT_BROKEN, EXIT_WRONG_USE, error_console
from faregate.cli.demo import demo
from faregate.cli.replay import replay
from faregate.cli.sample_api import api
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    InvalidArgumentError,
    LedgerUnavailableError,
    TransactionConflictError,
    UnfitDatabaseError,
)

_WRONG_USE = (
    ConfigurationError,
    InvalidArgumentError,
    TransactionConflictError,
    UnfitDatabaseError,
)

_NO_ANSWER = ArchiveUnavailableError, LedgerUnavailableError
#: The pool of the driver logs each try to connect; a command prints one error.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

app = typer.Typer(
    help="Credits for API calls: charged in Redis, recorded in Postgres, reconciled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Prepare and run": (setup.migrate, setup.worker, setup.config, access),
    "Check and restore": (
        health.status,
        health.doctor,
        checks.reconcile,
        checks.verify,
        forks,
        repair,
        acknowledge,
        rebuild,
        reopen,
    ),
    "Users and credits": (
        users.balance,
        users.history,
        users.usage,
        credits.grant,
        credits.refund,
        export,
        renew,
    ),
    "Try it": (init, dev, demo, replay, api),
}
for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
#: So that a negative amount is not read as an option.
_NUMBERS = {"ignore_unknown_options": True}
app.command(rich_help_panel="Users and credits", context_settings=_NUMBERS)(credits.adjust)
for ending in (endings.close, endings.erase):
    users.users.command()(ending)
for name, group in {"users": users.users, "holds": holds, "keys": keys}.items():
    app.add_typer(group, name=name, rich_help_panel="Users and credits")
for name, group in {"journal": journal, "dead-letters": dead_letters}.items():
    app.add_typer(group, name=name, rich_help_panel="Check and restore")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"faregate {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """Credits for API calls: charged in Redis, recorded in Postgres, reconciled."""


def main() -> None:
    """Run the command line. Expected errors are one line, unexpected ones a traceback."""
    try:
        app(prog_name="faregate")
    except FaregateError as error:
        # For a server that does not answer, the doctor names the setting and the remedy.
        advice = "; run `faregate doctor`" if type(error) in _NO_ANSWER else ""
        line = " ".join(f"faregate: {error}{advice}".split())
        error_console().print(line, markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_WRONG_USE if isinstance(error, _WRONG_USE) else EXIT_BROKEN)
    except Exception:
        # Python would exit with 1, which here means that the ledger is not exact.
        traceback.print_exc()
        sys.exit(EXIT_BROKEN)
