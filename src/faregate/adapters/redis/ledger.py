"""Live credits in Redis: one script call a decision."""

from typing import Any
from uuid import UUID

from faregate.adapters.redis import keys
from faregate.adapters.redis.attempts import attempt_twice
from faregate.adapters.redis.clock import ServerClock
from faregate.adapters.redis.encoding import (
    encode_allowance,
    encode_key,
    encode_limits,
)
from faregate.adapters.redis.replies import read_charge, read_decision
from faregate.adapters.redis.runner import Arguments, Patience, ScriptRunner
from faregate.domain.decision import Decision
from faregate.domain.errors import (
    AmountError,
    ConfigurationError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
    OutcomeUnknownError,
    UnresolvedError,
)
from faregate.domain.idempotency import Completion
from faregate.domain.identity import LedgerIdentity
from faregate.domain.journal import JOURNALED_METADATA_BYTES_MAX, JournalEntry
from faregate.domain.policy import Allowance
from faregate.domain.request import Charge, Credit, Refund, VoidOutcome
from faregate.domain.texts import encode_description, encode_metadata
from faregate.domain.transaction import (
    CreditTransactionId,
    TransactionType,
    check_amount,
    check_whole,
)
from faregate.domain.user import User

#: How long one try of the calls that are not on the path of every request may take.
_SLOW = Patience(1.0)


class RedisLedger:
    """The port `Ledger` on Redis 7 or Valkey."""

    def __init__(self, runner: ScriptRunner, *, shard_count: int, stream_length_max: int) -> None:
        self._runner = runner
        self._clock = ServerClock()
        self._shard_count = shard_count
        self._stream_length_max = stream_length_max

    async def attach(self, identity: LedgerIdentity) -> None:
        """Make sure that this is the ledger of `identity`; see the port."""
        if identity.shard_count != self._shard_count:
            raise ConfigurationError(
                f"the ledger has {identity.shard_count} shards, the settings {self._shard_count}"
            )
        seconds, microseconds = await self._runner.command("TIME")
        self._clock.observe(int(seconds) * 1000 + int(microseconds) // 1000)
        if not identity.installed:
            await self._create(identity)
        flat = await self._runner.command("HGETALL", keys.ledger())
        texts = [part.decode() for part in flat]
        problem = identity.mismatch(dict(zip(texts[::2], texts[1::2], strict=True)))
        if problem:
            raise LedgerUninitialisedError(problem)

    async def _create(self, identity: LedgerIdentity) -> None:
        """Mark an empty Redis as this ledger's; what is there already is left for the check."""
        for name, mark in identity.marks.items():
            await self._runner.command("HSETNX", keys.ledger(), name, mark)
        if await self._runner.command("HGET", keys.ledger(), "ledger_id") != (
            identity.marks["ledger_id"].encode()
        ):
            return
        for shard in range(identity.shard_count):
            await self._runner.command("SET", keys.epoch(shard), identity.epoch, "NX")

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the clock of Redis has reached for certain."""
        return self._clock.now_ms()

    async def charge(self, charge: Charge) -> Decision:
        """Take credits if there are enough; see the port."""
        check_whole("a cost", charge.cost, 0)
        reply = await attempt_twice(charge, self._charge_once, self._clock)
        return read_charge(reply, charge)

    async def _charge_once(self, charge: Charge, patience: Patience) -> list[Any]:
        arguments: Arguments = (
            charge.transaction_id.value.bytes,
            charge.user_id.bytes,
            charge.cost,
            charge.deadline_ms,
            1 if charge.fresh else 0,
            self._stream_length_max,
            encode_description(charge.description),
            encode_metadata(charge.metadata),
            1 if charge.records_zero else 0,
            *encode_allowance(charge.allowance),
            *encode_limits(charge.limits),
            *encode_key(charge.key),
        )
        names = self._shard_keys(charge.user_id, charge.transaction_id)
        return await self._run("charge", names + self._rule_keys(charge), arguments, patience)

    def _rule_keys(self, charge: Charge) -> tuple[str, ...]:
        """Name what is checked beside the credits: rate limits, and the idempotency key."""
        shard = self._shard(charge.user_id)
        key = () if charge.key is None else keys.idempotency(shard, charge.user_id)
        return (*keys.rates(shard, charge), *key)

    async def credit(self, credit: Credit) -> Decision:
        """Add credits or adjust a balance; see the port."""
        check_amount(credit.type, credit.amount)
        shard = self._shard(credit.user_id)
        names = (
            *keys.account(shard, credit.user_id),
            keys.receipt(shard, credit.transaction_id),
        )
        arguments: Arguments = (
            credit.transaction_id.value.bytes,
            credit.user_id.bytes,
            credit.type.value,
            credit.amount,
            1 if credit.negative_allowed else 0,
            encode_description(credit.description),
            encode_metadata(credit.metadata),
        )
        reply = await self._run_twice("credit", names, arguments)
        return read_decision(reply, credit.user_id, credit.transaction_id, credit.amount)

    async def collect(self, entry: JournalEntry) -> Decision:
        """Take what a journaled request owes, as far as there is enough; see the port."""
        arguments: Arguments = (
            entry.deduct_id.value.bytes,
            entry.user_id.bytes,
            entry.owed,
            1 if entry.is_recorded else 0,
            encode_description(entry.description),
            encode_metadata(entry.row_metadata, bytes_max=JOURNALED_METADATA_BYTES_MAX),
            *encode_allowance(entry.allowance),
            *encode_key(entry.key),
        )
        names = self._shard_keys(entry.user_id, entry.deduct_id)
        if entry.key is not None:
            names = (*names, *keys.idempotency(self._shard(entry.user_id), entry.user_id))
        reply = await self._run_twice("collect", names, arguments)
        return read_decision(reply, entry.user_id, entry.deduct_id, -reply[6])

    async def refund(self, refund: Refund) -> Decision:
        """Give a deduct back; see the port."""
        if refund.amount is not None:
            check_amount(TransactionType.REFUND, refund.amount)
        durable = refund.durable
        arguments: Arguments = (
            refund.transaction_id.value.bytes,
            refund.user_id.bytes,
            refund.deduct_id.value.bytes,
            "" if refund.amount is None else refund.amount,
            refund.position,
            "" if durable is None else durable.amount,
            "" if durable is None else durable.refunded,
            encode_description(refund.description),
            encode_metadata(refund.metadata),
            "" if durable is None else durable.allowance_amount,
            "" if durable is None else durable.period_start_ms or 0,
            "" if refund.attempt_id is None else refund.attempt_id.value.bytes,
            1 if refund.has_own_id else 0,
        )
        names = self._undo_keys(refund.user_id, refund.deduct_id)
        reply = await self._run_twice("refund", names, arguments)
        amount = reply[6] or refund.amount or 0
        return read_decision(reply, refund.user_id, refund.transaction_id, amount)

    async def void(self, charge: Charge) -> VoidOutcome:
        """Settle a charge whose outcome is unknown; see the port."""
        void = charge.void()
        arguments: Arguments = (
            charge.transaction_id.value.bytes,
            charge.user_id.bytes,
            void.transaction_id.value.bytes,
            charge.asked_at_ms,
            charge.deadline_ms,
            encode_description(void.description),
        )
        names = self._undo_keys(charge.user_id, charge.transaction_id)
        reply = await self._run_twice("void", names, arguments)
        status = reply[0].decode()
        if status == "unresolved":
            raise UnresolvedError("the user has too many recent records to find the charge")
        if status == "out_of_range":
            raise AmountError(f"the void of {charge.transaction_id} would leave the range")
        return VoidOutcome(status)

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        shard = self._shard(completion.user_id)
        kept = keys.response(shard, completion.transaction_id)
        names = (*keys.idempotency(shard, completion.user_id), kept)
        identity = completion.transaction_id
        attempt = completion.attempt_id or identity
        arguments: Arguments = (
            identity.value.bytes,
            completion.response,
            completion.keep_ms,
            attempt.value.bytes,
        )
        reply = await self._run_twice("complete", names, arguments)
        return bool(reply[0] == b"completed")

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return the response that was kept; see the port."""
        name = keys.response(self._shard(user_id), transaction_id)
        found: bytes | None = await self._runner.command("GET", name)
        return found

    async def read(self, user_id: UUID, allowance: Allowance | None = None) -> User | None:
        """Return the live balance; see the port."""
        shard = self._shard(user_id)
        names = (keys.user(shard, user_id), keys.epoch(shard))
        reply = await self._run_twice("read", names, encode_allowance(allowance))
        status, credits_, sequence, _, epoch, left, starts_ms, ends_ms, held = reply
        if status == b"unknown_user":
            return None
        return User(
            id=user_id,
            credits=credits_,
            sequence=sequence,
            epoch=epoch,
            allowance_left=left,
            period_start_ms=starts_ms or None,
            period_end_ms=ends_ms or None,
            held=held,
        )

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the period of now, if an earlier one is over; see the port."""
        names = keys.account(self._shard(user_id), user_id)
        arguments = (user_id.bytes, self._stream_length_max, *encode_allowance(allowance))
        status, credits_, _, _, added = await self._run_twice("renew", names, arguments)
        if status == b"backlog":
            raise LedgerUnavailableError("too many records wait for the worker")
        if status == b"out_of_range":
            raise AmountError(f"a new period would take the balance {credits_} out of its range")
        return None if status == b"unknown_user" else int(added)

    async def install(self, user: User) -> bool:
        """Take over a user's durable balance; see the port."""
        shard = self._shard(user.id)
        names = (keys.user(shard, user.id), keys.epoch(shard))
        period = "" if user.period_start_ms is None else user.period_start_ms
        arguments = (user.credits, user.sequence, user.epoch, user.allowance_left, period)
        reply = await self._run_twice("install", names, arguments)
        if reply[0] == b"epoch":
            raise LedgerUninitialisedError(
                f"Redis is of epoch {reply[4]} where Postgres expects {user.epoch}: rebuild it"
            )
        return bool(reply[0] == b"installed")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._runner.aclose()

    def _shard(self, user_id: UUID) -> int:
        return keys.shard_of(user_id, self._shard_count)

    def _shard_keys(self, user_id: UUID, deduct_id: CreditTransactionId) -> tuple[str, ...]:
        shard = self._shard(user_id)
        return (*keys.account(shard, user_id), keys.refunds(shard, deduct_id))

    def _undo_keys(self, user_id: UUID, deduct_id: CreditTransactionId) -> tuple[str, ...]:
        names = self._shard_keys(user_id, deduct_id)
        return (*names, *keys.idempotency(self._shard(user_id), user_id))

    async def _run_twice(
        self, name: str, names: tuple[str, ...], arguments: Arguments
    ) -> list[Any]:
        """Run a script that knows its own retry by the ids in its arguments."""
        try:
            return await self._run(name, names, arguments, _SLOW)
        except OutcomeUnknownError:
            return await self._run(name, names, arguments, _SLOW)

    async def _run(
        self, name: str, names: tuple[str, ...], arguments: Arguments, patience: Patience
    ) -> list[Any]:
        reply = await self._runner.run(name, names, arguments, patience)
        self._clock.observe(reply[3])
        if reply[0] == b"uninitialised":
            raise LedgerUninitialisedError("Redis is empty: it was wiped, and must be rebuilt")
        return reply
