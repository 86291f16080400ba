"""What was served without a decision is charged later, once, whatever became of it."""

from uuid import UUID, uuid4

import pytest

from faregate import CreditTransactionId, FailureMode, Gate, Verdict
from faregate.domain.journal import Collection
from journals import POLICIES, Outage
from lossy_ledger import outlive
from waiting import WAIT_S_MAX

OPEN = FailureMode.OPEN
DAY_MS = 86_400_000


@pytest.fixture
async def outage() -> Outage:
    return await Outage.prepare()


@pytest.mark.parametrize("void_first", [True, False])
async def test_an_attempt_that_was_charged_all_the_same_is_charged_once(
    outage: Outage, *, void_first: bool
) -> None:
    """Its answer was lost. The attempt is voided, by the gate and by the import, in any order."""
    outage.ledger.is_lossy = True
    decision = await outage.charge()
    outage.ledger.is_lossy = False
    assert decision.journaled
    assert (await outage.ledger.read(outage.user_id)).credits == 2  # type: ignore[union-attr]
    outage.clock.ms += 1_000
    if void_first:
        assert await outage.gate.retries.join(WAIT_S_MAX)
        assert await outage.live() == 3
    (collected,) = await outage.collect()
    assert collected.outcome is Collection.KNOWN
    assert await outage.gate.retries.join(WAIT_S_MAX)
    assert await outage.live() == 2
    assert sorted(record.amount for record in outage.ledger.pending.values()) == [-1, -1, 1]


async def test_the_id_of_a_request_that_was_served_before_is_not_charged_again(
    outage: Outage,
) -> None:
    """A retry by a caller's own id is free, in an outage too."""
    once = CreditTransactionId.mint(outage.clock())
    await outage.gate.charge(outage.user_id, transaction_id=once)
    outage.clock.ms += 1_000
    outage.ledger.is_down = True
    assert (await outage.charge(transaction_id=once)).journaled
    outage.ledger.is_down = False
    outage.clock.ms += 1_000
    assert [one.outcome for one in await outage.collect()] == [Collection.KNOWN]
    assert await outage.live() == 2


async def test_one_id_is_charged_once_however_often_it_is_served(outage: Outage) -> None:
    """Both attempts are in the journal, under the same id."""
    outage.ledger.is_down = True
    once = CreditTransactionId.mint(outage.clock())
    for _ in range(2):
        await outage.charge(transaction_id=once)
    outage.ledger.is_down = False
    outage.clock.ms += 1_000
    await outage.collect()
    assert len(outage.journal.entries) == 2
    assert await outage.live() == 2


async def test_a_refund_cancels_the_request(outage: Outage) -> None:
    """Nothing is ever charged for it."""
    outage.ledger.is_down = True
    decision = await outage.charge(cost=2)
    refunded = await outage.gate.refund(decision)
    assert (refunded.verdict, refunded.amount) == (Verdict.ALLOWED, 2)
    outage.ledger.is_down = False
    assert [one.outcome for one in await outage.collect()] == [Collection.CANCELLED]
    assert await outage.live() == 3
    assert not outage.ledger.pending


async def test_refunds_in_part_lower_the_charged_amount(outage: Outage) -> None:
    """Each by its own id, and a retry of one counts once."""
    outage.ledger.is_down = True
    decision = await outage.charge(cost=3)
    for number in (1, 2, 2):
        refund_id = CreditTransactionId(UUID(int=number))
        assert (await outage.gate.refund(decision, amount=1, transaction_id=refund_id)).allowed
    for amount in (0, 4):
        refused = await outage.gate.refund(decision, amount=amount)
        assert refused.verdict is Verdict.REFUND_EXCEEDED
    outage.ledger.is_down = False
    await outage.collect()
    assert await outage.live() == 2
    assert [record.amount for record in outage.ledger.pending.values()] == [-1]


@pytest.mark.parametrize("is_row", [True, False])
async def test_a_refund_after_the_import_gives_back(outage: Outage, *, is_row: bool) -> None:
    """The request went on while its entry was collected; its row may be there or not."""
    outage.ledger.is_down = True
    decisions = [await outage.charge(cost=1) for _ in range(3)]
    outage.ledger.is_down = False
    await outage.collect()
    assert await outage.live() == 0
    if is_row:
        # The row is all that is left.
        outlive(outage.ledger, outage.store, outage.clock, DAY_MS + 1)
    await outage.gate.refund(decisions[0])
    await outage.gate.refund(
        decisions[1], amount=1, transaction_id=CreditTransactionId(UUID(int=9))
    )
    # The first one's entry is imported again, the second one's has been put away.
    await outage.gate.collect(outage.journal.entries[0], outage.journal.changes[:1])
    await outage.gate.collect(outage.journal.entries[0], outage.journal.changes[:1])
    await outage.gate.follow(outage.journal.changes[1])
    await outage.gate.follow(outage.journal.changes[1])
    assert await outage.live() == 2


async def test_a_refund_that_cannot_be_written_down_is_written_later(outage: Outage) -> None:
    """The answer says that it is pending, and the request is cancelled all the same."""
    outage.ledger.is_down = True
    decision = await outage.charge()
    outage.journal.is_full = True
    assert (await outage.gate.refund(decision)).is_pending
    outage.journal.is_full = False
    assert await outage.gate.retries.join(WAIT_S_MAX)
    assert len(outage.journal.changes) == 1


async def test_a_user_with_too_few_credits_pays_all_of_them(outage: Outage) -> None:
    """Nobody is taken below zero for what was served in an outage."""
    outage.ledger.is_down = True
    await outage.charge(cost=5)
    outage.ledger.is_down = False
    collected = await outage.gate.collect(outage.journal.entries[0])
    assert (collected.charged, collected.shortfall) == (3, 2)
    assert await outage.live() == 0


async def test_a_new_user_is_served(outage: Outage) -> None:
    """By its id; the import tells of one that does not exist, and makes none."""
    outage.ledger.is_down = True
    known, unknown = uuid4(), uuid4()
    for user_id in (known, unknown):
        await outage.gate.charge(user_id, on_failure=OPEN)
    outage.ledger.is_down = False
    outage.store.users.add(known)
    strict = Gate(outage.ledger, outage.store, POLICIES)
    outcomes = [(await strict.collect(one)).outcome for one in outage.journal.entries]
    assert outcomes == [Collection.COLLECTED, Collection.UNKNOWN_USER]
    assert unknown not in outage.store.users
