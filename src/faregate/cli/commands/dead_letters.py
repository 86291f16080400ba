"""`faregate dead-letters`: show, store or discard records that cannot be rows."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from faregate.adapters.postgres.letters import PostgresLetters
from faregate.bootstrap import open_audit, open_letters, open_stream
from faregate.cli.commands.credits import operator_of
from faregate.cli.conventions import (
    EXIT_NOT_EXACT,
    Json,
    members,
    print_result,
    print_tables,
    show_verdict,
)
from faregate.config import Settings, read_settings
from faregate.domain.dead_letter import LetterKind, LetterOutcome, LetterResult
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.finding import Finding
from faregate.domain.operator import Operator
from faregate.ops.reconcile import differences

COUNT_MAX = 10_000
#: The largest number of a letter in Postgres.
_ID_MAX = 2**63 - 1

Ids = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="ID...", min=1, max=_ID_MAX, help="Ids from `faregate dead-letters list`."
    ),
]
Kind = Annotated[
    LetterKind | None, typer.Option(help="The reason why a record cannot become a row.")
]
All = Annotated[bool, typer.Option("--all", help="With --kind: all pending letters of that kind.")]
Actor = Annotated[str, typer.Option(help="The operator; stored with the letter.")]
Reason = Annotated[str, typer.Option(help="The reason; stored with the letter.")]
Yes = Annotated[
    bool, typer.Option("--yes", help="Confirm: a discarded record never becomes a row.")
]

dead_letters = typer.Typer(
    help="Show, store or discard records that cannot become rows.",
    no_args_is_help=True,
)


@dead_letters.command("list")
def list_letters(
    kind: Kind = None,
    user: Annotated[UUID | None, typer.Option(help="The user; all users by default.")] = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="Include letters that are no longer pending.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="The maximum number.")] = 100,
    as_json: Json = False,
) -> None:
    """List pending dead letters, oldest first.

    Example: faregate dead-letters list --kind refused
    """
    with open_letters(read_settings()) as letters:
        print_result(letters.listed(kind, user, count, is_all=is_all), as_json=as_json)


@dead_letters.command()
def show(
    letter: Annotated[
        int,
        typer.Argument(metavar="ID", min=1, max=_ID_MAX, help="The number of the letter."),
    ],
    as_json: Json = False,
) -> None:
    """Show a dead letter: its reason, its outcome with actor and reason, and its record.

    Example: faregate dead-letters show 42
    """
    with open_letters(read_settings()) as letters:
        (found,) = letters.letters([letter])
        entry = letters.record(found)
    result = {name: value for name, value in found.items() if name != "payload"}
    record = entry.transaction and members(entry.transaction)
    payload = None if record else entry.payload.hex()
    result |= {"record": record, "problem": entry.problem or None, "payload": payload}
    print_result(result, as_json=as_json)


@dead_letters.command()
def retry(
    ids: Ids = None,
    *,
    kind: Kind = None,
    is_all: All = False,
    actor: Actor,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Store records as rows, with the worker's checks. Exit 1 if one stays a dead letter.

    Example: faregate dead-letters retry 42 43 --actor ann --reason "the constraint is gone"
    """
    _make_rows(
        LetterOutcome.RETRIED, _asked(ids, kind, is_all), operator_of(actor, reason), as_json
    )


@dead_letters.command()
def resolve(
    ids: Ids = None,
    *,
    kind: Kind = None,
    is_all: All = False,
    actor: Actor,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Insert rows for records, with their ids, places and times. Exit 1 if a record stays.

    The metadata of a row have actor and reason. If another row has the id, the row gets a new
    one, and the metadata have the `original_id`.

    Example: faregate dead-letters resolve 42 --actor ann --reason "ticket 7"
    """
    _make_rows(
        LetterOutcome.RESOLVED, _asked(ids, kind, is_all), operator_of(actor, reason), as_json
    )


@dead_letters.command()
def discard(
    ids: Ids = None,
    *,
    kind: Kind = None,
    is_all: All = False,
    actor: Actor,
    reason: Reason,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take records out of the sums, for good. Exit 1 if live and durable credits then differ.

    Example: faregate dead-letters discard --kind deleted_user --all --actor ann --reason gone --yes
    """
    who, settings = operator_of(actor, reason), read_settings()
    with open_letters(settings) as letters:
        found = letters.letters(_ids(letters, _asked(ids, kind, is_all)))
        if not yes:
            raise InvalidArgumentError(_warning(found))
        treated = letters.discard(found, who)
    _print_letters(settings, treated, as_json)


def _warning(letters: Sequence[Any]) -> str:
    total = sum(letter["amount"] or 0 for letter in letters if not letter["discarded_at"])
    return (
        f"{len(letters)} records would be discarded for good. If live balances have these records,"
        f" live and durable credits then differ by {total:+}. Confirm with --yes"
    )


def _make_rows(
    outcome: LetterOutcome,
    asked: tuple[Sequence[int], LetterKind | None],
    who: Operator,
    as_json: bool,
) -> None:
    settings = read_settings()
    with open_letters(settings) as letters:
        found = letters.letters(_ids(letters, asked))
        treated = [letters.make_row(letter, outcome, who) for letter in found]
    _print_letters(settings, treated, as_json)


def _asked(
    ids: Sequence[int] | None, kind: LetterKind | None, is_all: bool
) -> tuple[Sequence[int], LetterKind | None]:
    if bool(ids) == bool(kind) or bool(kind) != is_all:
        raise InvalidArgumentError(
            "pass the ids of letters, or --kind KIND --all for all of a kind"
        )
    return ids or (), kind


def _ids(letters: PostgresLetters, asked: tuple[Sequence[int], LetterKind | None]) -> Sequence[int]:
    ids, kind = asked
    return letters.of_kind(kind) if kind else ids


def _print_letters(settings: Settings, treated: Sequence[LetterResult], as_json: bool) -> None:
    """Print the outcomes, and the drift of the users now."""
    findings: Sequence[Finding] = ()
    if users := {letter.user_id for letter in treated if letter.user_id}:
        with open_stream(settings) as stream, open_audit(settings) as audit:
            findings = differences(stream, stream, audit, list(users))
    result = [members(letter) for letter in treated]
    if as_json:
        print_result(
            {"letters": result, "findings": [one.as_dict() for one in findings]}, as_json=True
        )
    else:
        print_tables(result, "letters")
        for finding in findings:
            print(f"{finding.kind}: {finding.detail}")
        show_verdict(not findings)
    if findings or any(letter.outcome is LetterOutcome.STAYS for letter in treated):
        raise typer.Exit(EXIT_NOT_EXACT)
