"""A call of 64 spends of every kind, and what it answers where something in it was damaged."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

import hiredis
from redis import Redis
from redis.exceptions import ResponseError

from clocks import RedisClock, ToldClocks, clock_of_the_test
from faregate.adapters.redis import keys
from faregate.adapters.redis.layouts import ENTRY
from faregate.adapters.redis.link import Argument, pack_command
from faregate.adapters.redis.records import read_entry
from faregate.adapters.redis.replies import STATUSES, CallReply
from faregate.domain.attempt import Attempt, Phase
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.spend import HoldOptions, Spend, SpendOptions
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from redis_ledger import IDENTITY, everything, make_ledger, value

COUNT = 64
SHARD_COUNT = 4
SHARDS = keys.shards(SHARD_COUNT)
#: How long after the earlier requests the call comes: they still count for limits, and are known.
LATER_MS = 5_000
_MINUTE_MS = 60_000

MINUTE = RateLimit(name="minute", count=60, period_ms=_MINUTE_MS)
HOUR = RateLimit(name="hour", count=100, period_ms=60 * _MINUTE_MS, burst=5)
WINDOW = RateLimit(name="window", count=3, period_ms=_MINUTE_MS, kind=LimitKind.WINDOW)
MEMBER = RateLimit(name="member", count=3, period_ms=_MINUTE_MS, is_by_key=True)
DAY = Allowance(amount=20, period=Period(kind=PeriodKind.DAY), rollover_max=5)

PLAIN = CreditPolicy()
POLICIES = {
    "limits": CreditPolicy(name="limits", limits=(MINUTE, HOUR)),
    "window": CreditPolicy(name="window", limits=(WINDOW,)),
    "by key": CreditPolicy(name="by key", limits=(MEMBER,)),
    "allowance": CreditPolicy(name="allowance", allowance=DAY),
    "shadow": CreditPolicy(name="shadow", is_shadow=True, limits=(MINUTE,)),
    "unlimited": CreditPolicy(name="unlimited", is_unlimited=True),
    "all": CreditPolicy(name="all", limits=(MINUTE, WINDOW, MEMBER), allowance=DAY),
}
#: The kinds of spends, and how often a kind is asked for in another situation.
KINDS = ("plain", *POLICIES, "key", "hold", "given", "text")
SITUATIONS = ("fresh", "after another", "again", "too dear", "unknown user", "peek")

#: A command.
Change: TypeAlias = tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One spend of the call: what is asked, by whom, and in which situation."""

    number: int

    @property
    def kind(self) -> str:
        return KINDS[self.number % len(KINDS)]

    @property
    def situation(self) -> str:
        return SITUATIONS[self.number // len(KINDS)]

    @property
    def shard(self) -> keys.Shard:
        return SHARDS[keys.shard_of(self.user_id, SHARD_COUNT)]

    @property
    def user_id(self) -> UUID:
        """A user of its own, so that what becomes of one spend is no matter of another."""
        return UUID(int=(self.number + 1) << 64 | self.number * 7 // 3, version=4)

    def spend(self, name: str, cost: int, now_ms: int) -> Spend:
        """Return a spend of the kind; `name` tells it from another one of the user."""
        options: dict[str, Any] = {}
        has_all = self.kind == "all"
        if self.kind == "key" or has_all:
            options["key"] = IdempotencyKey(key=name, fingerprint="POST /")
        if self.kind == "hold" or has_all:
            options["hold"] = HoldOptions(ttl_ms=_MINUTE_MS)
        if self.kind == "given" or has_all:
            options["transaction_id"] = CreditTransactionId.mint(now_ms)
        if self.kind == "text" or has_all:
            options |= {"description": "Grüße", "metadata": {"path": "/a"}}
        if self.kind in {"by key", "all"}:
            options["limit_key"] = "member"
        policy = POLICIES.get(self.kind, PLAIN)
        cost = 0 if policy.is_unlimited else cost
        return Spend(self.user_id, cost, policy, SpendOptions(**options))


PLACES = tuple(map(Place, range(COUNT)))


@dataclass(frozen=True, slots=True)
class Answer:
    """All that one spend can notice of a call."""

    status: str
    #: The answer but for its index, which depends on how many records the shard has.
    fields: tuple[Any, ...]
    details: bytes
    #: The record at its index.
    record: bytes
    #: The account afterwards.
    account: bytes | None


class MixedCall:
    """The call, packed, and a copy of everything that it finds."""

    def __init__(self, client: Redis, arguments: list[bytes]) -> None:
        self.client = client
        self.arguments = arguments
        self.found = everything(client)
        self._values = {}
        for name in self.found:
            if client.type(name) == b"string":
                self._values[name] = value(client, name)
        self._restore = _packed(
            ("FLUSHDB",), *(("RESTORE", name, 0, dump) for name, dump in self.found.items())
        )
        self._connection: Any = client.connection_pool.get_connection()
        #: The shards in the order of the call, and the keys of accounts that its spends read.
        self.shards = tuple(dict.fromkeys(place.shard for place in PLACES))
        self.accounts = arguments[-COUNT - 2 - COUNT : -COUNT - 2]
        streams = (("XREVRANGE", one.stream, "+", "-", "COUNT", 1) for one in self.shards)
        self._look = _packed(("MGET", *self.accounts), *streams)
        self._looks = 1 + SHARD_COUNT

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def spend(self, number: int) -> bytes:
        """Return a packed spend."""
        return self.arguments[number - COUNT]

    def value(self, name: bytes) -> bytes:
        """Return a packed value as the call finds it."""
        return self._values[name]

    def restore(self) -> None:
        """Put everything back that the call finds."""
        self._connection.send_packed_command([self._restore])
        for _ in range(1 + len(self.found)):
            assert self._read() == b"OK"

    def ask(self, arguments: list[bytes] | None = None, *changes: Change) -> list[Answer]:
        """Restore what the call finds, change it, and return the answers of the call."""
        reply, seen = self._ask(arguments or self.arguments, changes)
        assert isinstance(reply, bytes), reply
        return self._answers(reply, seen)

    def refuse(self, arguments: list[bytes]) -> str:
        """Return the error that the call is refused with, or nothing; none has written anything."""
        reply, _ = self._ask(arguments, ())
        if isinstance(reply, bytes):
            return ""
        assert everything(self.client) == self.found
        return str(reply)

    def with_spend(self, number: int, packed: bytes) -> list[bytes]:
        """Return the arguments of a call with another spend at a place."""
        arguments = list(self.arguments)
        arguments[number - COUNT] = packed
        return arguments

    def _ask(self, arguments: list[bytes], changes: tuple[Change, ...]) -> tuple[Any, list[Any]]:
        command = _packed(tuple(arguments))
        sent = [self._restore, _packed(*changes), command, self._look]
        self._connection.send_packed_command(sent)
        count = 1 + len(self.found) + len(changes) + 1 + self._looks
        replies = [self._read() for _ in range(count)]
        before = replies[: -1 - self._looks]
        assert not [reply for reply in before if isinstance(reply, Exception)]
        return replies[-1 - self._looks], replies[-self._looks :]

    def _read(self) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    def _answers(self, packed: bytes, seen: list[Any]) -> list[Answer]:
        """Read a reply, with the accounts and the last entries that came after it."""
        reply = CallReply(packed, COUNT)
        accounts, *streams = seen
        written = {
            shard: (entry, dict(_records(stream)))
            for shard, entry, stream in zip(self.shards, reply.addresses, streams, strict=True)
        }
        details, answers = packed[reply.details_at :], []
        for place, fields, account in zip(PLACES, reply.spends(), accounts, strict=True):
            *told, index, size = fields
            entry, records = written[place.shard]
            answers.append(
                Answer(
                    status=STATUSES[fields[0] - 1],
                    fields=tuple(told),
                    details=details[:size],
                    record=records[f"{entry}{index}"] if index else b"",
                    account=account,
                )
            )
            details = details[size:]
        assert not details
        return answers


def _packed(*commands: Change) -> bytes:
    return b"".join(map(pack_command, commands))


def _records(stream: Any) -> Iterator[tuple[str, bytes]]:
    """Iterate over the records of the last entry of a stream, by their addresses."""
    if isinstance(stream, list) and stream:
        position, (_, payload) = stream[0]
        for record in read_entry(position.decode(), payload):
            # Its header tells its place among all records, which depends on the others.
            yield record.stream_id, record.payload[ENTRY.size :]


def _real_expiry(name: str, source: str) -> str:
    """Let keys expire by the server, as in production: it must take every time it is told."""
    altered = re.sub(
        r"redis\.call\('ZADD', 'test:ends_ms'.*", "redis.call('PEXPIRE', key, ms)", source
    )
    assert altered != source or name == "allowed", name
    return altered


@contextmanager
def still_clock(client: Redis) -> Iterator[RedisClock]:
    """Let time stand still for the scripts, and keys expire as they do in production."""
    with clock_of_the_test(_real_expiry):
        clock = ToldClocks.clock = RedisClock(client)
        yield clock


async def mixed_call(client: Redis, url: str, clock: RedisClock) -> MixedCall:
    """Make the ledger that the call finds, and pack the call."""
    ledger = make_ledger(url, shard_count=SHARD_COUNT)
    await ledger.attach(replace(IDENTITY, shard_count=SHARD_COUNT))
    for place in PLACES:
        if place.situation != "unknown user":
            await ledger.install(User(id=place.user_id, credits=100, sequence=1, epoch=1))
    clock.advance(1)
    began_ms = clock()
    earlier = {}
    for place in PLACES:
        if place.situation in {"after another", "again"}:
            name = "now" if place.situation == "again" else "earlier"
            earlier[place] = Attempt(place.spend(name, 3, began_ms))
            assert (await ledger.decide(earlier[place])).allowed
    clock.advance(LATER_MS)
    attempts = [_attempt(place, earlier.get(place), began_ms) for place in PLACES]
    lane = ledger._session.nodes.endpoints[0].lane
    packed = lane._flights._packer.pack([lane._pack(attempt) for attempt in attempts]).packed
    await ledger.aclose()
    reader = hiredis.Reader()
    reader.feed(packed)
    return MixedCall(client, reader.gets())


def _attempt(place: Place, earlier: Attempt | None, began_ms: int) -> Attempt:
    """Return the attempt of a spend; one that comes again has the id of the earlier one."""
    cost = {"too dear": 1_000, "peek": 0}.get(place.situation, 3)
    if place.situation != "again" or earlier is None:
        return Attempt(place.spend("now", cost, began_ms + LATER_MS))
    attempt = Attempt(earlier.spend)
    if attempt.transaction_id is None:
        attempt.transaction_id, attempt.phase = earlier.transaction_id, Phase.SENT_AGAIN
    return attempt
