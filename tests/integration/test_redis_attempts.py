"""Attempts that overtake each other, clocks that jump, and memories that have run out."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from faregate.adapters.redis import keys
from faregate.adapters.redis.ledger import RedisLedger
from faregate.adapters.redis.runner import Patience
from faregate.adapters.redis.stream import RedisStream
from faregate.domain.decision import Verdict
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.request import Charge, Refund, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from redis_ledger import SHARD, balance, charge_of, install

DAY_MS = 86_400_000


def refund_of(charge: Charge, amount: int | None = None) -> Refund:
    """Ask for a refund with an id of its own."""
    return Refund(
        user_id=charge.user_id,
        deduct_id=charge.transaction_id,
        transaction_id=CreditTransactionId.mint(1_800_000_000_000),
        amount=amount,
        description="refund",
    )


async def test_a_first_attempt_that_its_retry_overtook_charges_nothing(
    ledger: RedisLedger,
) -> None:
    """The retry is charged; the first attempt arrives later, in time, and is recognised."""
    user_id = await install(ledger)
    first = charge_of(ledger, user_id)
    retry = await ledger.charge(replace(first, fresh=False))
    await ledger.charge(charge_of(ledger, user_id))
    late = await ledger.charge(first)
    assert (retry.repeated, late.repeated) == (False, True)
    assert late.sequence == retry.sequence
    assert await balance(ledger, user_id) == 8


async def test_a_retry_that_is_refused_does_not_speak_for_the_attempt_before(
    ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt may still arrive and be charged, so the outcome is unknown."""
    user_id = await install(ledger, credits_=0)
    once = ledger._charge_once

    async def lose_the_first(charge: Charge, patience: Patience) -> list[Any]:
        if charge.fresh:
            raise OutcomeUnknownError("lost")
        return await once(charge, patience)

    monkeypatch.setattr(ledger, "_charge_once", lose_the_first)
    with pytest.raises(OutcomeUnknownError, match="out_of_credits"):
        await ledger.charge(charge_of(ledger, user_id))


async def test_a_clock_that_stepped_back_hides_no_record(ledger: RedisLedger, client: Any) -> None:
    """Ids of a stream never go back, so the search for a retry goes by them.

    The record of a clock that was behind is one whose time, but not whose id, is older.
    """
    user_id = await install(ledger)
    charge = charge_of(ledger, user_id)
    await ledger.charge(charge)
    other = charge_of(ledger, user_id)
    await ledger.charge(other)
    name = keys.stream(SHARD)
    (stream_id, fields) = client.xrevrange(name, count=1)[0]
    record = bytearray(fields[b"r"])
    record[54:62] = (1_000_000).to_bytes(8, "big")
    client.xdel(name, stream_id)
    new_id = client.xadd(name, {"r": bytes(record)})
    client.hset(keys.user(SHARD, user_id), "l", new_id)
    entries = list(RedisStream(Redis.from_pool(client.connection_pool), 1).unacknowledged(SHARD))
    times = [entry.transaction.timestamp.year for entry in entries if entry.transaction]
    assert times[-1] == 1970, "the time of the latest record was not set back"
    again = await ledger.charge(replace(charge, fresh=False))
    assert again.repeated
    assert await ledger.void(replace(charge, deadline_ms=1)) is VoidOutcome.REFUNDED
    assert await balance(ledger, user_id) == 9


async def test_a_void_spares_what_an_earlier_call_was_answered(ledger: RedisLedger) -> None:
    """A client that repeats a served request, and hangs up, does not get its credits back."""
    user_id = await install(ledger)
    served = charge_of(ledger, user_id)
    await ledger.charge(served)
    await asyncio.sleep(0.01)
    await ledger.read(user_id)
    repeated = replace(served, asked_at_ms=ledger.now_ms(), deadline_ms=1, fresh=False)
    assert await ledger.void(repeated) is VoidOutcome.KEPT
    assert await balance(ledger, user_id) == 9
    deadline_ms = ledger.now_ms() + 1_000
    assert (await ledger.charge(replace(repeated, deadline_ms=deadline_ms))).repeated


async def test_no_refund_is_made_while_records_are_older_than_its_memory(
    ledger: RedisLedger, client: Any
) -> None:
    """A refund that is neither a row nor remembered could be paid twice, so it has to wait."""
    user_id = await install(ledger)
    charge = charge_of(ledger, user_id)
    await ledger.charge(charge)
    refund = refund_of(charge, 1)
    name = keys.stream(SHARD)
    records = client.xrange(name)
    client.delete(name)
    client.xadd(name, {"r": b"old"}, id="1-1")
    for stream_id, fields in records:
        client.xadd(name, fields, id=stream_id)
    assert (await ledger.refund(refund)).verdict is Verdict.BACKLOG
    assert await balance(ledger, user_id) == 9
    client.xdel(name, "1-1")
    assert (await ledger.refund(refund)).allowed


async def test_what_is_remembered_is_forgotten_after_a_day(
    ledger: RedisLedger, client: Any
) -> None:
    """The memory of refunds and voids is bounded in time."""
    user_id = await install(ledger)
    charge, voided = charge_of(ledger, user_id), charge_of(ledger, user_id)
    await ledger.charge(charge)
    await ledger.refund(refund_of(charge))
    assert await ledger.void(replace(voided, deadline_ms=1)) is VoidOutcome.REFUSED
    for item in (charge, voided):
        left_ms = client.pttl(keys.refunds(SHARD, item.transaction_id))
        assert DAY_MS - 60_000 < left_ms <= DAY_MS


async def test_nobody_is_refunded_what_another_user_paid(ledger: RedisLedger) -> None:
    """The position of a record says whose it is."""
    payer, other = await install(ledger), await install(ledger)
    charge = charge_of(ledger, payer)
    decision = await ledger.charge(charge)
    theft = replace(refund_of(charge), user_id=other, position=decision.position)
    assert (await ledger.refund(theft)).verdict is Verdict.UNKNOWN_DEDUCT
    assert await balance(ledger, other) == 10


async def test_a_search_that_is_cut_short_decides_nothing(ledger: RedisLedger, client: Any) -> None:
    """Beyond the bound a retry is neither charged again nor taken for charged."""
    user_id = await install(ledger)
    charge = charge_of(ledger, user_id)
    await ledger.charge(charge)
    name, user = keys.stream(SHARD), keys.user(SHARD, user_id)
    (stream_id, fields) = client.xrevrange(name, count=1)[0]
    record = bytearray(fields[b"r"])
    record[2:18] = bytes(16)
    ms, n = stream_id.decode().split("-")
    pipeline = client.pipeline(transaction=False)
    for step in range(1, 10_002):
        record[62:74] = int(ms).to_bytes(8, "big") + (int(n) + step - 1).to_bytes(4, "big")
        pipeline.xadd(name, {"r": bytes(record)}, id=f"{ms}-{int(n) + step}")
    pipeline.execute()
    client.hset(user, "l", f"{ms}-{int(n) + 10_001}")
    # More than the ledger of these tests may hold, so only what is decided before that counts.
    with pytest.raises(LedgerUnavailableError, match="too many recent"):
        await ledger.charge(replace(charge, fresh=False))
    with pytest.raises(LedgerUnavailableError, match="too many recent"):
        await ledger.void(replace(charge, deadline_ms=1))
    assert await balance(ledger, user_id) == 9
