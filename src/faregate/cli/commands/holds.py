"""`faregate holds`: lists open holds, and gives one back."""

from typing import Annotated
from uuid import UUID

import typer

from faregate.bootstrap import open_sweeper
from faregate.cli.commands.credits import Actor, Reason, checked_text, require_done
from faregate.cli.commands.users import UserId
from faregate.cli.conventions import Json, members, print_result
from faregate.cli.gates import ask, operator_gate
from faregate.config import read_settings
from faregate.domain.hold import Hold
from faregate.domain.transaction import CreditTransactionId

COUNT_MAX = 10_000

holds = typer.Typer(help="List open holds, and release one.", no_args_is_help=True)


@holds.command("list")
def list_holds(
    user: Annotated[UUID | None, typer.Option(help="The user; all users by default.")] = None,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="The maximum number.")] = 100,
    as_json: Json = False,
) -> None:
    """List open holds in the order of their expiry.

    Example: faregate holds list --user 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    """
    with open_sweeper(read_settings()) as sweeper:
        print_result(list(map(members, sweeper.list_holds(user, count))), as_json=as_json)


@holds.command()
def release(
    user: UserId,
    hold: Annotated[UUID, typer.Argument(help="The id of the hold.")],
    *,
    actor: Actor,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Release an open hold: refund its whole estimate.

    Example: faregate holds release 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    0199f5d2-c6a0-7c1e-8f0a-3b5d7e9f1a2b --actor ann --reason "ticket 7"
    """
    answer = ask(
        operator_gate(),
        lambda gate: gate.cancel(
            Hold.known_by(user, CreditTransactionId(hold)),
            description=checked_text("reason", reason),
            metadata={"actor": checked_text("actor", actor)},
        ),
    )
    require_done(answer)
    names = ("user_id", "hold_id", "refunded", "credits", "repeated")
    print_result({name: getattr(answer, name) for name in names}, as_json=as_json)
