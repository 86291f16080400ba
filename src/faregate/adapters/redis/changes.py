"""Changes of balances in Redis other than spends: voids, refunds, credits, collected entries."""

from typing import Any

from faregate.adapters.redis.encoding import pack_idempotency_key, pack_rules
from faregate.adapters.redis.link import Argument
from faregate.adapters.redis.replies import error_of, read_decision
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.decision import Decision
from faregate.domain.durability import Durability
from faregate.domain.errors import UnresolvedError
from faregate.domain.hold import closing_id
from faregate.domain.journal import JOURNALED_METADATA_BYTES_MAX, JournalEntry
from faregate.domain.request import VOID_DESCRIPTION, Credit, Refund, Void, VoidOutcome
from faregate.domain.texts import encode_description, encode_metadata

_OUTCOMES = {outcome.value for outcome in VoidOutcome}


class ChangeScripts:
    """Changes balances; the script call that changes a balance also records it."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

    async def void(self, void: Void) -> VoidOutcome:
        """Undo a spend whose outcome is unknown; see the port."""
        before = (
            void.transaction_id.bytes,
            void.refund_id.bytes,
            closing_id(void.transaction_id).bytes,
            void.asked_at_ms,
            void.deadline_ms,
            void.first_deadline_ms,
        )
        reply = await self._search("void", void, before, (encode_description(VOID_DESCRIPTION),))
        if reply[0] not in _OUTCOMES:
            raise error_of(reply[0], f"the void of {void.transaction_id}")
        return VoidOutcome(reply[0])

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        durable, attempt_id = refund.durable, refund.attempt_id
        row: tuple[Argument, ...] = ("",) * 4
        if durable is not None:
            period_ms = durable.period_start_ms or 0
            row = durable.amount, durable.refunded, durable.allowance_amount, period_ms
        before: tuple[Argument, ...] = (
            refund.transaction_id.bytes,
            refund.deduct_id.bytes,
            "" if refund.amount is None else refund.amount,
            refund.position,
        )
        after = (
            *row,
            b"" if attempt_id is None else attempt_id.bytes,
            int(refund.has_own_id),
            encode_description(refund.description),
            encode_metadata(refund.metadata),
        )
        reply = await self._search("refund", refund, before, after)
        amount = reply[6] or refund.amount or 0
        return read_decision(reply, refund.user_id, refund.transaction_id, amount)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        before, after = credit_arguments(credit)
        reply = await self._search("credit", credit, before, after, credit.durability)
        return read_decision(reply, credit.user_id, credit.transaction_id, credit.amount)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Charge a journaled request, as far as the credits go; see the port."""
        reply = await self._runner.run(
            "collect",
            entry.user_id,
            entry.deduct_id.bytes,
            entry.owed,
            int(entry.is_recorded),
            pack_rules(entry.allowance),
            b"" if entry.key is None else pack_idempotency_key(entry.key),
            encode_description(entry.description),
            encode_metadata(entry.row_metadata, bytes_max=JOURNALED_METADATA_BYTES_MAX),
        )
        return read_decision(reply, entry.user_id, entry.deduct_id, -reply[6])

    async def _search(
        self,
        name: str,
        request: Void | Refund | Credit,
        before: tuple[Argument, ...],
        after: tuple[Argument, ...],
        durability: Durability = Durability.MEMORY,
    ) -> list[Any]:
        """Run a script until its search has ended; each call searches a bounded part.

        The argument between `before` and `after` is the position where the search continues; the
        last part of the reply is the next one. A search has a fixed window, so it ends.
        """
        start = b""
        while True:
            arguments = *before, start, *after
            reply = await self._runner.run(name, request.user_id, *arguments, durability=durability)
            if reply[0] != "unresolved":
                return reply
            if reply[-1] == start:
                raise UnresolvedError(f"the search of {name} makes no progress")
            start = reply[-1]


def credit_arguments(credit: Credit) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    """Return the arguments of the script `credit` before and after the position of its search."""
    before = (
        credit.transaction_id.bytes,
        credit.type.value,
        credit.amount,
        int(credit.negative_allowed),
    )
    return before, (encode_description(credit.description), encode_metadata(credit.metadata))
