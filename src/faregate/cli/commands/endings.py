"""`faregate users close` takes a user's keys, holds and credits; `erase` deletes the user."""

import sys
import time
from contextlib import ExitStack
from typing import Annotated
from uuid import UUID

import typer

from faregate.adapters.postgres.erasures import PostgresErasures
from faregate.bootstrap import (
    open_api_key_admin,
    open_erasures,
    open_requests,
    open_stream,
    open_sweeper,
)
from faregate.cli.commands.credits import Actor, Reason, operator_of, require_done
from faregate.cli.commands.holds import COUNT_MAX
from faregate.cli.commands.users import UserId
from faregate.cli.conventions import EXIT_NOT_EXACT, Json, error_console, print_result
from faregate.cli.gates import ask, operator_gate
from faregate.config import Settings, read_settings
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError, OutcomeUnknownError
from faregate.domain.hold import Hold
from faregate.domain.operator import Operator
from faregate.gate import Gate

#: The interval between two checks whether a worker has erased a user, in seconds.
CHECK_INTERVAL_S = 0.2
#: How often the credits of a user that spends meanwhile are taken.
TRIES_MAX = 10

EraseReason = Annotated[
    str, typer.Option(help="The reason; stored for 30 days with a digest of the id.")
]


def close(user: UserId, *, actor: Actor, reason: Reason, as_json: Json = False) -> None:
    """Close a user: revoke its API keys, refund its open holds, and take its credits.

    The rows stay. Make your application stop identifying the user: a valid token may still receive
    the credits of a new period.

    Example: faregate users close 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d --actor ann --reason "left"
    """
    who = operator_of(actor, reason)
    settings = read_settings()
    with open_api_key_admin(settings) as admin:
        found = [key for key in admin.keys(user, None, COUNT_MAX) if key.revoked_at is None]
        for key in found:
            admin.revoke(key.id)
    with open_sweeper(settings) as sweeper:
        holds = [Hold.known_by(user, hold.id) for hold in sweeper.list_holds(user, COUNT_MAX)]
    result = ask(operator_gate(), lambda gate: _take_all(gate, user, holds, who))
    print_result({"user_id": user, "keys_revoked": len(found), **result}, as_json=as_json)
    print("Make your application stop identifying this user.", file=sys.stderr)


async def _take_all(gate: Gate, user: UUID, holds: list[Hold], who: Operator) -> dict[str, object]:
    """Give holds back, and take all credits, even if the user spends some meanwhile."""
    for hold in holds:
        metadata = {"actor": who.actor}
        answer = await gate.cancel(hold, description=who.reason, metadata=metadata)
        if answer.is_pending:
            require_done(answer)
    charged = 0
    for _ in range(TRIES_MAX):
        known = await gate.balance(user)
        if known is None:
            raise InvalidArgumentError(f"there is no user {user}")
        if known.credits <= 0:
            return {
                "holds_released": len(holds),
                "credits_taken": charged,
                "credits": known.credits,
            }
        done = await gate.adjust(user, -known.credits, actor=who.actor, reason=who.reason)
        if done.verdict is not Verdict.OUT_OF_CREDITS:
            require_done(done)
            charged += known.credits
    raise InvalidArgumentError("the user keeps spending: make your application stop identifying it")


def erase(
    user: UserId,
    *,
    actor: Annotated[str, typer.Option(help="The operator; stored for 30 days with a digest.")],
    reason: EraseReason,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm: the user cannot be restored.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete despite requests in flight or open holds.")
    ] = False,
    wait_s: Annotated[int, typer.Option(min=0, help="Seconds to wait for the worker.")] = 120,
    as_json: Json = False,
) -> None:
    """Delete a user with all rows and keys, and count the rest. A worker deletes the keys.

    After an interruption, run it again. Exit 1 if anything is left.

    Example: faregate users erase 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d --actor ann
    --reason "article 17" --yes
    """
    who = operator_of(actor, reason)
    settings = read_settings()
    with open_erasures(settings) as erasures:
        if erasures.traces(user)["users"]:
            _require_idle(settings, user, is_forced=force)
            if not yes:
                raise InvalidArgumentError(
                    f"user {user} would be deleted for good. Confirm with --yes"
                )
            erasures.delete(user, who)
        elif erasures.is_erasing(user) is None:
            raise InvalidArgumentError(f"there is no user {user}")
        _wait(erasures, user, wait_s)
        left = {**erasures.traces(user), **_left_in_redis(settings, user)}
    records = left.pop("records")
    result = {"user_id": user, "left": left, "records_in_redis": records}
    print_result(result, as_json=as_json)
    if any(left.values()):
        raise typer.Exit(EXIT_NOT_EXACT)


def _require_idle(settings: Settings, user: UUID, *, is_forced: bool) -> None:
    """Check that a user has no requests in flight and no open holds.

    Raises:
        InvalidArgumentError: Requests are in flight, or holds are open.
    """
    with open_requests(settings) as requests, open_sweeper(settings) as sweeper:
        in_flight = requests.in_flight(user, settings.idempotency_lease_ms)
        holds = len(sweeper.list_holds(user, COUNT_MAX))
    if (in_flight or holds) and not is_forced:
        raise InvalidArgumentError(
            f"user {user} has {in_flight} requests in flight and {holds} open holds: close the user"
            " first, or add --force"
        )


def _wait(erasures: PostgresErasures, user: UUID, wait_s: int) -> None:
    """Wait until a worker has deleted the keys of a user.

    Raises:
        OutcomeUnknownError: No worker did so in time.
    """
    give_up_at = time.monotonic() + wait_s
    with error_console().status("deleted; waiting for the worker to delete the keys"):
        while erasures.is_erasing(user):
            if time.monotonic() >= give_up_at:
                raise OutcomeUnknownError(
                    f"the user is deleted, but after {wait_s} s no worker has deleted the keys:"
                    " start `faregate worker`, and run the command again"
                )
            time.sleep(CHECK_INTERVAL_S)


def _left_in_redis(settings: Settings, user: UUID) -> dict[str, int]:
    with ExitStack() as opened:
        requests = opened.enter_context(open_requests(settings))
        sweeper = opened.enter_context(open_sweeper(settings))
        stream = opened.enter_context(open_stream(settings))
        return {
            "keys": requests.idempotency_key_count(user),
            "open_holds": len(sweeper.list_holds(user, COUNT_MAX)),
            # All records in the stream, including those that are rows.
            "records": sum(1 for _ in stream.pending_of(user, {})),
        }
