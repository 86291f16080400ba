"""Changes of credits by an operator: grant, adjust, refund.

Each change is a row with the operator (`actor` in the metadata) and the reason (the description).
"""

from typing import Annotated
from uuid import UUID

import typer

from faregate.cli.commands.users import UserId
from faregate.cli.conventions import Json, print_result
from faregate.cli.gates import ask, operator_gate
from faregate.domain.decision import Decision, Verdict
from faregate.domain.durability import Durability
from faregate.domain.errors import InvalidArgumentError, OutcomeUnknownError
from faregate.domain.hold import HoldAnswer
from faregate.domain.idempotency import id_of_idempotency_key
from faregate.domain.operator import Operator
from faregate.domain.transaction import CreditTransactionId

Actor = Annotated[str, typer.Option(help="The operator; stored in the metadata of the row.")]
Reason = Annotated[str, typer.Option(help="The reason; stored as the description of the row.")]
IdempotencyKeyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="A key such as a ticket: the change is made once."),
]
DurabilityOption = Annotated[
    Durability,
    typer.Option(help="How safe the change is before the command ends; see docs/durability.md."),
]

_REASONS = {
    Verdict.UNKNOWN_USER: "the user does not exist",
    Verdict.UNKNOWN_DEDUCT: "the user has no such charge",
    Verdict.UNKNOWN_HOLD: "the user has no such hold",
    Verdict.HOLD_EXPIRED: "the hold has expired",
    Verdict.REFUND_EXCEEDED: "the amount exceeds the rest of the charge",
    Verdict.OUT_OF_CREDITS: "the balance would fall below zero; --allow-negative permits it",
    Verdict.BACKLOG: "too many records wait for the worker",
}


def grant(
    user: UserId,
    amount: Annotated[int, typer.Argument(min=1, help="The number of credits to add.")],
    *,
    actor: Actor,
    reason: Reason,
    idempotency_key: IdempotencyKeyOption = None,
    durability: DurabilityOption = Durability.MEMORY,
    as_json: Json = False,
) -> None:
    """Add credits to a user, for example after a purchase.

    Example: faregate grant 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d 100 --actor ann --reason "ticket 7"
    """
    decision = ask(
        operator_gate(),
        lambda gate: gate.grant(
            user,
            amount,
            idempotency_key=idempotency_key,
            description=checked_text("reason", reason),
            metadata={"actor": checked_text("actor", actor)},
            durability=durability,
        ),
    )
    _print_change(decision, as_json)


def adjust(
    user: UserId,
    amount: Annotated[int, typer.Argument(help="The change in credits, such as 5 or -5.")],
    *,
    actor: Actor,
    reason: Reason,
    idempotency_key: IdempotencyKeyOption = None,
    allow_negative: Annotated[bool, typer.Option(help="Allow a balance below zero.")] = False,
    durability: DurabilityOption = Durability.MEMORY,
    as_json: Json = False,
) -> None:
    """Correct the balance of a user, up or down.

    Example: faregate adjust 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d -5 --actor ann --reason "ticket 7"
    """
    decision = ask(
        operator_gate(),
        lambda gate: gate.adjust(
            user,
            amount,
            actor=actor,
            reason=reason,
            negative_allowed=allow_negative,
            idempotency_key=idempotency_key,
            durability=durability,
        ),
    )
    _print_change(decision, as_json)


def refund(
    user: UserId,
    transaction: Annotated[UUID, typer.Argument(help="The id of the charge.")],
    *,
    actor: Actor,
    reason: Reason,
    amount: Annotated[
        int | None, typer.Option(min=1, help="A part of the charge; needs --idempotency-key.")
    ] = None,
    idempotency_key: IdempotencyKeyOption = None,
    as_json: Json = False,
) -> None:
    """Refund a charge: all that is left of it, once, or a part.

    Example: faregate refund 7b1a3a3e-2f61-4f5b-9b0e-6d1c0a1f2e3d
    0199f5d2-c6a0-7c1e-8f0a-3b5d7e9f1a2b --actor ann --reason "ticket 7"
    """
    if (amount is None) != (idempotency_key is None):
        raise InvalidArgumentError(
            "give --amount and --idempotency-key together to refund a part, or neither to refund"
            " all that is left"
        )
    decision = ask(
        operator_gate(),
        lambda gate: gate.refund_by_id(
            user,
            CreditTransactionId(transaction),
            amount=amount,
            transaction_id=None
            if idempotency_key is None
            else id_of_idempotency_key(user, idempotency_key),
            description=checked_text("reason", reason),
            metadata={"actor": checked_text("actor", actor)},
        ),
    )
    _print_change(decision, as_json)


def checked_text(name: str, text: str) -> str:
    """Return a text that is not blank.

    Raises:
        InvalidArgumentError: The text is blank.
    """
    if not text.strip():
        raise InvalidArgumentError(f"--{name} is blank")
    return text


def operator_of(actor: str, reason: str) -> Operator:
    """Return the operator and the reason of a change; raises as `checked_text` does."""
    return Operator(checked_text("actor", actor), checked_text("reason", reason))


def require_done(answer: Decision | HoldAnswer) -> None:
    """Check that a change was made.

    Raises:
        InvalidArgumentError: It was refused, and nothing was changed.
        OutcomeUnknownError: Redis did not answer in time.
    """
    if answer.is_pending:
        raise OutcomeUnknownError(
            "Redis did not answer: run the command again; the change is made once"
        )
    if not answer.allowed:
        verdict = answer.verdict
        raise InvalidArgumentError(f"refused: {_REASONS.get(verdict, verdict.replace('_', ' '))}")


def _print_change(decision: Decision, as_json: bool) -> None:
    require_done(decision)
    names = ("user_id", "transaction_id", "amount", "credits", "repeated")
    print_result({name: getattr(decision, name) for name in names}, as_json=as_json)
