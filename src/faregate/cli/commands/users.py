"""Commands about one user: balance, history, usage, show, export."""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated
from uuid import UUID

import typer

from faregate.asgi.cursor import read_cursor, write_cursor
from faregate.asgi.usage import history_members, usage_members
from faregate.bootstrap import (
    open_api_key_admin,
    open_audit,
    open_reports,
    open_stream,
    open_sweeper,
)
from faregate.cli.commands.keys import plain_api_key
from faregate.cli.conventions import Json, json_of, members, print_result, stream_out
from faregate.cli.gates import ask, load_gate
from faregate.config import Settings, read_settings
from faregate.domain.errors import ConfigurationError, InvalidArgumentError
from faregate.domain.history import PAGE_LENGTH_MAX, HistoryRow
from faregate.domain.user import User

#: How many items of each kind `users show` prints; `users export` prints all.
SHOWN_COUNT = 10
_COUNT_MAX = 10_000

UserId = Annotated[UUID, typer.Argument(metavar="USER", help="The id of a user.")]

#: The fields of a usage; most of them depend on the policy.
_USAGE = (
    *("policy", "is_unlimited", "remaining", "held", "limit", "used"),
    *("period_start", "period_end", "warning"),
)

users = typer.Typer(help="Show, export, close or erase a user.", no_args_is_help=True)


def balance(user: UserId, as_json: Json = False) -> None:
    """Print the live balance of a user or, if Redis does not know the user, the durable one.

    Example: faregate balance 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    """
    live, _, newest = _known(read_settings(), user)
    result = {"user_id": user, "is_live": live is not None, **_balance(newest)}
    print_result(result, as_json=as_json)


def history(
    user: UserId,
    count: Annotated[
        int, typer.Option(min=1, max=PAGE_LENGTH_MAX, help="The number of rows on a page.")
    ] = 20,
    before: Annotated[
        str | None, typer.Option(help="The `next_cursor` of the previous page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a page of a user's rows, newest first.

    Example: faregate history 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d --count 50
    """
    place = None if before is None else read_cursor(before)
    if before is not None and place is None:
        raise InvalidArgumentError("--before takes the `next_cursor` of the page before")
    with open_reports(read_settings()) as reports:
        # One more row shows whether there is a next page.
        found = reports.newest(user, count + 1, place)
    result = {
        "transactions": _rows(found[:count]),
        "next_cursor": write_cursor(found[count - 1].place) if len(found) > count else None,
    }
    print_result(result, as_json=as_json)


def usage(
    user: UserId,
    gate: Annotated[
        str | None,
        typer.Option(help="Your gate with its policies: package.module:attribute."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the used and remaining credits of a user, by the policies of your gate.

    Without --gate, values that depend on the policy are missing.

    Example: faregate usage 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d --gate myapp.gates:gate
    """
    if gate is None:
        _, _, newest = _known(read_settings(), user)
        result = dict.fromkeys(_USAGE) | {"remaining": newest.credits, "held": newest.held}
        print("The policy is unknown: name your gate with --gate.", file=sys.stderr)
    else:
        found = ask(load_gate(gate), lambda opened: opened.usage(user))
        if found is None:
            raise _unknown(user)
        result = dict(usage_members(found))
    print_result(result, as_json=as_json)


@users.command()
def show(user: UserId, as_json: Json = False) -> None:
    """Show a user: live and durable balance, open holds, API keys and the newest rows.

    API keys are missing if the role may not read them.

    Example: faregate users show 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    """
    settings = read_settings()
    live, durable, _ = _known(settings, user)
    with open_reports(settings) as reports, open_sweeper(settings) as sweeper:
        result = {
            "user_id": user,
            "live": live and _balance(live),
            "durable": durable and {"credits": durable.credits, "sequence": durable.sequence},
            "open_holds": list(map(members, sweeper.list_holds(user, SHOWN_COUNT))),
            "api_keys": _api_keys(settings, user, SHOWN_COUNT),
            "newest_transactions": _rows(reports.newest(user, SHOWN_COUNT, None)),
        }
    print_result(result, as_json=as_json)


@users.command()
def export(user: UserId) -> None:
    """Print all data of a user as JSON lines; `entry` names the kind of each.

    Example: faregate users export 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d > user.jsonl
    """
    stream_out(f"{json_of(line)}\n" for line in _all_of(read_settings(), user))


def _all_of(settings: Settings, user: UUID) -> Iterator[dict[str, object]]:
    live, durable, _ = _known(settings, user)
    yield {
        "entry": "user",
        "user_id": user,
        "live": live and _balance(live),
        "durable": durable and {"credits": durable.credits, "sequence": durable.sequence},
    }
    with (
        open_stream(settings) as stream,
        open_sweeper(settings) as sweeper,
        open_reports(settings) as reports,
    ):
        for key in _api_keys(settings, user, _COUNT_MAX) or []:
            yield {"entry": "api_key", **key}
        for hold in sweeper.list_holds(user, _COUNT_MAX):
            yield {"entry": "open_hold", **members(hold)}
        # Before the rows: a record that becomes a row meanwhile is printed twice, but never left
        # out.
        cursors = reports.audit.cursors()
        for record in stream.pending_of(user, cursors):
            yield {"entry": "pending", **members(record)}
        for letter in reports.dead_letters(user):
            yield {"entry": "dead_letter", **letter}
        for row in reports.rows(user):
            yield {"entry": "transaction", **row}


def _known(settings: Settings, user: UUID) -> tuple[User | None, User | None, User]:
    """Return the live and the durable balance of a user, and the newer one of them.

    Raises:
        InvalidArgumentError: The user has neither.
        ConfigurationError: The settings have another number of shards.
    """
    with open_stream(settings) as stream, open_audit(settings) as audit:
        # With another number of shards the user would not be found.
        audit.identity().require_shards(stream.shard_count)
        live, durable = stream.read_many([user]).get(user), audit.reached([user]).get(user)
    newest = live or durable
    if newest is None:
        raise _unknown(user)
    return live, durable, newest


def _unknown(user: UUID) -> InvalidArgumentError:
    return InvalidArgumentError(f"there is no user {user}")


def _balance(user: User) -> dict[str, object]:
    names = ("credits", "held", "allowance_left", "sequence")
    return {name: getattr(user, name) for name in names}


def _api_keys(settings: Settings, user: UUID, count_max: int) -> list[dict[str, object]] | None:
    with open_api_key_admin(settings) as admin:
        try:
            return list(map(plain_api_key, admin.keys(user, None, count_max)))
        except ConfigurationError:
            return None


def _rows(found: Sequence[HistoryRow]) -> list[dict[str, object]]:
    return [dict(history_members(row)) for row in found]
