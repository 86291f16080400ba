"""Searches for the record of an id: where they begin, how far they go, and how they go on."""

from contextlib import suppress

import pytest
from redis import Redis

from faregate.adapters.redis.ledger import RedisLedger
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.decision import Verdict
from faregate.domain.errors import TransactionConflictError, UnresolvedError
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.windows import (
    ATTEMPT_MS_MAX,
    GIVEN_ID_AHEAD_MS_MAX,
    GIVEN_ID_MS_MAX,
    KEYLESS_MS_MAX,
    MINTED_ID_AHEAD_MS_MAX,
)
from full_stream import AHEAD_MS, FullStream
from redis_ledger import KEYS, balance, install

pytestmark = pytest.mark.redis

#: For so long the id of a caller has a key.
KEY_MS = GIVEN_ID_MS_MAX + ATTEMPT_MS_MAX
#: How many entries one call of a void, a refund or a credit reads, and one of a spend.
ENTRIES_MAX, SPEND_ENTRIES_MAX = 256, 1_024
PAGE_LENGTH = 16


@pytest.fixture
async def stream(ledger: RedisLedger, client: Redis) -> FullStream:
    user_id = await install(ledger)
    made = FullStream(client, ledger, user_id, ledger.now_ms() + AHEAD_MS)
    await made.begin()
    return made


async def retried(stream: FullStream, identity: CreditTransactionId) -> bool:
    return (await stream.retry(identity)).repeated


async def spent(stream: FullStream, identity: CreditTransactionId) -> bool:
    return (await stream.spend(identity)).repeated


async def voided(stream: FullStream, identity: CreditTransactionId) -> bool:
    return await stream.void(identity, stream.now_ms - 1) is VoidOutcome.REFUNDED


async def refunded(stream: FullStream, identity: CreditTransactionId) -> bool:
    return (await stream.refund(identity)).verdict is Verdict.ALLOWED


async def granted(stream: FullStream, identity: CreditTransactionId) -> bool:
    with suppress(TransactionConflictError):
        await stream.grant(identity)
        return False
    return True


#: What looks for a record, and says whether it was there.
LOOK_UPS = {
    "retry": retried,
    "caller's id": spent,
    "void": voided,
    "refund": refunded,
    "grant": granted,
}
HOW = list(LOOK_UPS)


async def found_by(how: str, stream: FullStream, identity: CreditTransactionId) -> bool:
    """Ask for an id that may have been charged; say whether its record was found."""
    try:
        return await LOOK_UPS[how](stream, identity)
    except AttemptError as error:
        # A retry that is not recognised comes too late to be charged.
        return error.event is not Event.LATE


@pytest.mark.parametrize("how", HOW)
async def test_a_record_near_the_time_of_its_id_is_found_by_the_first_read(
    stream: FullStream, how: str
) -> None:
    """However many records lie before it and after it."""
    identity, age_ms = stream.id_of(5_000), 5_000
    at_ms = stream.now_ms - age_ms
    stream.fill(at_ms - 500, 500)
    stream.record(identity, at_ms + 3)
    stream.fill(at_ms + 4, 900)
    looks = stream.counted("xrange"), stream.counted("xrevrange")
    assert await found_by(how, stream, identity)
    # A refund and a grant also look for what has waited for a day.
    assert stream.counted("xrange") - looks[0] <= 1
    assert stream.counted("xrevrange") == looks[1]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("late_ms", [-MINTED_ID_AHEAD_MS_MAX, -1, 0, KEYLESS_MS_MAX])
async def test_a_minted_attempt_is_found_wherever_it_was_charged_without_a_key(
    stream: FullStream, how: str, late_ms: int
) -> None:
    """At both ends of the time, among few records."""
    identity = stream.id_of(50_000)
    at_ms = stream.now_ms - 50_000 + late_ms
    stream.fill(at_ms - 20, 20)
    stream.record(identity, at_ms)
    stream.fill(at_ms + 1, 20)
    assert await found_by(how, stream, identity)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("late_ms", [-MINTED_ID_AHEAD_MS_MAX - 1, KEYLESS_MS_MAX + 1])
async def test_nothing_is_found_outside_of_that_time(
    stream: FullStream, how: str, late_ms: int
) -> None:
    """What is charged there has a key, so nothing is read."""
    identity = stream.id_of(50_000)
    stream.record(identity, stream.now_ms - 50_000 + late_ms)
    assert not await found_by(how, stream, identity)


@pytest.mark.parametrize("late_ms", [0, 1])
async def test_a_void_searches_only_until_its_deadline(stream: FullStream, late_ms: int) -> None:
    """Nothing is charged later, so the entries of later times are not read."""
    identity, deadline_ms = stream.id_of(5_000), stream.now_ms - 4_900
    stream.record(identity, deadline_ms + late_ms)
    stream.fill(deadline_ms + 1, 1_000)
    looks = stream.counted("xrange")
    outcome = await stream.void(identity, deadline_ms)
    assert outcome is (VoidOutcome.REFUSED if late_ms else VoidOutcome.REFUNDED)
    assert stream.counted("xrange") - looks <= 2


@pytest.mark.parametrize("how", ["void", "refund", "grant"])
@pytest.mark.parametrize("late_ms", [-GIVEN_ID_AHEAD_MS_MAX, GIVEN_ID_MS_MAX])
async def test_an_id_of_a_caller_is_searched_for_when_its_key_has_run_out(
    stream: FullStream, how: str, late_ms: int
) -> None:
    """At both ends of the time in which it may have been used."""
    at_ms = stream.now_ms - KEY_MS
    identity = CreditTransactionId.mint(at_ms - late_ms)
    stream.fill(at_ms - 20, 20)
    stream.record(identity, at_ms)
    stream.fill(at_ms + 1, 20)
    assert await found_by(how, stream, identity)


@pytest.mark.parametrize("how", ["void", "refund", "grant"])
@pytest.mark.parametrize("late_ms", [-GIVEN_ID_AHEAD_MS_MAX, GIVEN_ID_MS_MAX])
async def test_an_id_of_a_caller_is_not_searched_for_while_its_key_must_be_there(
    stream: FullStream, how: str, late_ms: int
) -> None:
    """Where no key is, no record is: only that of a minted attempt has none."""
    at_ms = stream.now_ms - KEY_MS + 1
    identity = CreditTransactionId.mint(at_ms - late_ms)
    stream.record(identity, at_ms)
    assert not await found_by(how, stream, identity)


@pytest.mark.parametrize("how", ["caller's id", "void", "refund", "grant"])
async def test_an_id_of_a_caller_is_known_by_its_key(stream: FullStream, how: str) -> None:
    """A retry reads no entry, and what needs the record reads one page."""
    identity = stream.id_of(40_000)
    stream.fill(stream.now_ms - 41_000, 1_100)
    assert (await stream.spend(identity)).allowed
    looks = stream.counted("xrange") + stream.counted("xrevrange")
    if how == "void":
        # It was charged just now, and so after the deadline of any call that can be voided.
        assert await stream.void(identity, stream.now_ms - 1) is VoidOutcome.KEPT
    else:
        assert await found_by(how, stream, identity)
    most = {"caller's id": 0, "grant": 0, "void": 3, "refund": 4}
    assert stream.counted("xrange") + stream.counted("xrevrange") - looks <= most[how]


async def test_a_key_that_cannot_be_read_is_no_reason_to_find_nothing(stream: FullStream) -> None:
    """The record is searched for in all of the time in which a caller may have used the id."""
    identity = stream.id_of(50_000)
    stream.record(identity, stream.now_ms - 5_000)
    stream.client.set(KEYS.remembered(identity), b"?")
    assert (await stream.refund(identity)).allowed


async def test_a_key_lasts_by_the_time_of_its_shard(stream: FullStream) -> None:
    """That stands still until the clock of the server has come up, and runs on from there."""
    identity = stream.id_of(0)
    await stream.spend(identity)
    left_ms = stream.client.pttl(KEYS.remembered(identity))
    assert AHEAD_MS + KEY_MS - 60_000 < left_ms <= AHEAD_MS + KEY_MS


async def test_entries_before_the_oldest_are_not_asked_for(stream: FullStream) -> None:
    """Redis would go through all of the stream."""
    stream.fill(stream.now_ms - 10_000, 100)
    looks = stream.counted("xrevrange")
    assert (await stream.refund(stream.id_of(20_000))).verdict is Verdict.UNKNOWN_DEDUCT
    assert stream.counted("xrevrange") == looks


async def test_a_retry_whose_search_reaches_its_bound_is_not_decided(stream: FullStream) -> None:
    """Beyond the bound it is neither charged again nor taken for charged."""
    identity = stream.id_of(1_000)
    at_ms = stream.now_ms - 1_000
    stream.fill(at_ms, SPEND_ENTRIES_MAX, an_ms=SPEND_ENTRIES_MAX)
    stream.record(identity, at_ms + 1)
    for ask in (stream.retry, stream.spend):
        with pytest.raises(UnresolvedError):
            await ask(identity)
    assert await balance(stream.ledger, stream.user_id) == 10


@pytest.mark.parametrize("how", ["void", "refund", "grant"])
@pytest.mark.parametrize("is_after", [False, True])
async def test_a_search_that_is_cut_short_goes_on_until_it_finds(
    stream: FullStream, how: str, *, is_after: bool
) -> None:
    """In further calls, on both sides of the time of the id, and none of them reads more."""
    identity, at_ms = stream.id_of(5_000), stream.now_ms - 5_000
    if not is_after:
        stream.record(identity, at_ms - MINTED_ID_AHEAD_MS_MAX)
    stream.fill(at_ms - 200, 1_000, an_ms=5)
    stream.fill(at_ms, 1_000, an_ms=5)
    if is_after:
        stream.record(identity, at_ms + 200)
    calls = stream.counted("evalsha")
    looks = stream.counted("xrange") + stream.counted("xrevrange")
    assert await found_by(how, stream, identity)
    calls = stream.counted("evalsha") - calls
    looks = stream.counted("xrange") + stream.counted("xrevrange") - looks
    assert calls == 2 * 1_000 // ENTRIES_MAX + 1
    # Each also asks for the oldest entry, and the last one for what has waited for a day.
    assert looks <= calls * (ENTRIES_MAX // PAGE_LENGTH + 1) + 1


async def test_a_search_that_finds_nothing_ends(stream: FullStream) -> None:
    """With the answer that it would have had at once."""
    identity, at_ms = stream.id_of(5_000), stream.now_ms - 5_000
    stream.fill(at_ms - 200, 2_000, an_ms=5)
    calls = stream.counted("evalsha")
    assert await stream.void(identity, stream.now_ms - 1) is VoidOutcome.REFUSED
    assert (await stream.refund(stream.id_of(4_999))).verdict is Verdict.UNKNOWN_DEDUCT
    assert stream.counted("evalsha") - calls > 2 * 2_000 // ENTRIES_MAX
