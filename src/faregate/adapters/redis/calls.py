"""One call of `spend.lua`: packs many attempts, and reads their decisions."""

import os
import struct
from operator import attrgetter
from time import monotonic

from faregate.adapters.redis import scripts
from faregate.adapters.redis.answered import AnswerLog
from faregate.adapters.redis.clock import ShardClocks
from faregate.adapters.redis.encoding import PackedPolicy
from faregate.adapters.redis.keys import Shard
from faregate.adapters.redis.layouts import (
    CALL,
    GIVEN,
    HOLD,
    KEY,
    NO_TIME,
    SPEND,
    TIME_MS_BYTES,
    VERSION,
    whole,
)
from faregate.adapters.redis.link import pack_command
from faregate.adapters.redis.queue import Waiting
from faregate.adapters.redis.replies import (
    NO_DETAILS,
    REPEATED,
    STATUSES,
    VERDICTS,
    CallReply,
    Details,
    SpendFields,
    error_of,
    read_details,
)
from faregate.domain.attempt import AttemptError, Event
from faregate.domain.decision import Verdict, decision_of
from faregate.domain.errors import FaregateError
from faregate.domain.transaction import CreditTransactionId, transaction_id_of

_ID = struct.Struct(">QQ")
#: The random parts of this number of ids are drawn at once. No other process shares them, since a
#: gate cannot be used in a forked process.
_RANDOMS = struct.Struct(">128Q")
_VERSION_7 = 0x7000
_VARIANT = 0x8000_0000_0000_0000
_RANDOM_BITS = 0x3FFF_FFFF_FFFF_FFFF
_COUNTER_BITS = 0xFFF
_NUMBER, _STREAM, _STATE = map(attrgetter, ("number", "stream", "state"))
_ACCOUNT, _PACKED = attrgetter("account"), attrgetter("packed")
#: How far a minted id is ahead of the known time of its shard. So it is newer than every id that
#: was named before. It is much less than the lead that a script refuses.
_ID_AHEAD_MS = 1


class Call:
    """A packed call, and the attempts in it."""

    __slots__ = (
        "heads",
        "is_awaited",
        "log",
        "packed",
        "shards",
        "times_ms",
        "waiting",
    )

    def __init__(
        self,
        waiting: list[Waiting],
        packed: bytes,
        heads: list[bytes],
        shards: list[int],
        times_ms: list[int],
    ) -> None:
        self.waiting = waiting
        self.packed = packed
        #: Its packed spends without their sections, and the log of the link that it was sent over.
        self.heads = heads
        self.log: AnswerLog | None = None
        #: The numbers of its shards, and the assumed time of each.
        self.shards = shards
        self.times_ms = times_ms
        #: Whether callers still wait for it.
        self.is_awaited = True

    def fail(self, event: Event, message: str) -> None:
        """Fail all attempts that still wait."""
        for waiting in self.waiting:
            waiting.fail(AttemptError(event, message))


class CallPacker:
    """Packs calls, and mints the ids of the attempts in them."""

    def __init__(
        self, clocks: ShardClocks, *, pending_max: int, timeout_ms: int, is_cluster: bool = False
    ) -> None:
        self._clocks = clocks
        self._is_cluster = is_cluster
        self._pending_max = pending_max
        self._timeout_ms = timeout_ms
        self._run_command = scripts.load("spend").run_command
        self._minted = 0
        self._randoms: list[int] = []

    def pack_all(self, waiting: list[Waiting]) -> list[Call]:
        """Pack one call or, in a cluster, one for each shard. All count as sent from now on."""
        if not self._is_cluster:
            return [self.pack(waiting)]
        by_shard: dict[Shard, list[Waiting]] = {}
        for one in waiting:
            by_shard.setdefault(one.shard, []).append(one)
        return [self.pack(of_shard) for of_shard in by_shard.values()]

    def pack(self, waiting: list[Waiting]) -> Call:
        """Pack a call. Its attempts count as sent from now on."""
        places: dict[Shard, int] = {}
        for one in waiting:
            one.place = places.setdefault(one.shard, len(places))
        numbers = list(map(_NUMBER, places))
        guards = [waiting[0].shard.guard] if self._is_cluster else ()
        times_ms = self._clocks.times_ms(numbers)
        # The shard with the latest time sets the deadline of all. A deadline that is too late does
        # no harm, since the attempt is voided.
        deadline_ms = max(times_ms) + self._timeout_ms
        policies, heads, spends = self._pack_spends(waiting, times_ms, deadline_ms)
        packed = pack_command(
            (
                *self._run_command,
                2 * len(places) + len(waiting) + len(guards),
                *map(_STREAM, places),
                *map(_STATE, places),
                *map(_ACCOUNT, waiting),
                *guards,
                CALL.pack(
                    VERSION,
                    len(places),
                    deadline_ms.to_bytes(TIME_MS_BYTES),
                    self._pending_max,
                ),
                b"".join(map(_PACKED, policies)),
                *spends,
            )
        )
        return Call(waiting, packed, heads, numbers, times_ms)

    def _pack_spends(
        self, waiting: list[Waiting], times_ms: list[int], deadline_ms: int
    ) -> tuple[dict[PackedPolicy, int], list[bytes], list[bytes]]:
        policies: dict[PackedPolicy, int] = {}
        heads, spends = [], []
        for one in waiting:
            attempt, place = one.attempt, one.place
            time_ms = times_ms[place]
            identity = attempt.transaction_id or self._mint(time_ms)
            attempt.note_sent(identity, time_ms, deadline_ms)
            policy = policies.setdefault(one.policy, len(policies) + 1)
            head = SPEND.pack(one.flags, place + 1, policy, attempt.spend.cost, identity.bytes)
            heads.append(head)
            spends.append(head + one.sections)
        return policies, heads, spends

    def _mint(self, time_ms: int) -> CreditTransactionId:
        """Make a UUIDv7. Within a millisecond, later ones are mostly greater."""
        if not self._randoms:
            self._randoms.extend(_RANDOMS.unpack(os.urandom(_RANDOMS.size)))
        self._minted = counter = (self._minted + 1) & _COUNTER_BITS
        high = (time_ms + _ID_AHEAD_MS) << 16 | _VERSION_7 | counter
        return transaction_id_of(_ID.pack(high, _VARIANT | self._randoms.pop() & _RANDOM_BITS))


def answer(call: Call, packed: bytes, clocks: ShardClocks) -> None:
    """Pass the decisions of a call to its callers, and remember that they know them.

    Raises:
        struct.error: The reply is ill-formed.
        LedgerUnavailableError: The reply has another version.
    """
    reply = CallReply(packed, len(call.waiting))
    times_us, addresses = reply.times_us, reply.addresses
    clocks.observe(list(zip(call.shards, call.times_ms, times_us, strict=True)))
    details_at, dropped = reply.details_at, []
    for one, fields in zip(call.waiting, reply.spends(), strict=True):
        size = fields[-1]
        if not one.future.done():
            details = NO_DETAILS
            if size:
                details = read_details(
                    packed[details_at : details_at + size],
                    one.policy.limits,
                    has_idempotency_key=bool(one.flags & KEY),
                    has_hold=bool(one.flags & HOLD),
                )
            _resolve(one, fields, details, times_us[one.place] // 1_000, addresses[one.place])
        else:
            dropped.append(one)
        details_at += size
    if call.log is not None:
        # Few callers give up, so their places are searched for.
        places = [call.waiting.index(one) for one in dropped]
        call.log.note(call.shards, call.heads, packed, places, monotonic())


def _resolve(
    one: Waiting, fields: SpendFields, details: Details, now_ms: int, address: str
) -> None:
    """Pass its decision, or the error of its status, to one caller."""
    status, limit, credits_, sequence, left, next_period, wait_ms, index, _ = fields
    verdict = VERDICTS[status]
    attempt = one.attempt
    spend, transaction_id = attempt.spend, attempt.transaction_id
    if verdict is None:
        one.fail(_error(one, status))
        return
    amount, attempt_id, shadow = -spend.cost, None, None
    limits, key_state, first_id, first_amount, expires_at_ms = details
    if first_id is not None:
        transaction_id, amount, attempt_id = first_id, first_amount, transaction_id
    if one.policy.shadow_digest:
        verdict, shadow = Verdict.ALLOWED, verdict
    one.future.set_result(
        decision_of(
            verdict,
            spend.user_id,
            transaction_id,
            amount,
            credits_,
            sequence,
            status == REPEATED,
            f"{address}{index}" if index else "",
            left,
            None if next_period == NO_TIME else whole(next_period),
            one.policy.limits[limit - 1].name if limit else "",
            wait_ms,
            limits,
            spend.policy,
            key_state,
            attempt_id,
            shadow,
            False,  # noqa: FBT003 -- all fields, in their order
            now_ms,
            expires_at_ms,
        )
    )


def _error(one: Waiting, status: int) -> FaregateError:
    """Return the error of a status."""
    name = STATUSES[status - 1] if 0 < status <= len(STATUSES) else str(status)
    if name == "stale" and not one.flags & GIVEN:
        # The id was minted here, so the attempt is late, not the id wrong.
        name = "late"
    return error_of(name, f"spend {one.attempt.transaction_id}")
