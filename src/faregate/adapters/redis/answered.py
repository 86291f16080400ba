"""The newest decisions that a gate has passed on, to be looked for in Redis.

A failover may lose the newest records. History keeps a prefix: if an entry of the stream is gone,
all later ones of the same history are gone, too. So one look at the newest one mostly suffices.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias, TypeVar

from faregate.adapters.redis.layouts import SPEND
from faregate.adapters.redis.replies import CallReply, address_of

_T = TypeVar("_T")

#: For how long an answer is remembered, in seconds, and in how many replies by one link. A replica
#: that is further behind loses more than can be named.
REMEMBERED_S = 10.0
REPLIES_MAX = 32_768
#: How many of the last answers of a shard are compared to find the newest one.
LATE_MAX: Final = 256
#: How many replies are read before the loop goes on, which takes some milliseconds.
READ_MAX: Final = 256

#: The reply to a call, as it came, since it is only read after a loss: when it came; the shards of
#: the call; its packed spends without their sections; its reply; the places of the spends whose
#: callers had given up. A plain tuple, since each call makes one.
_Reply: TypeAlias = tuple[float, Sequence[int], bytes, bytes, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers of one entry of a stream. Its ids are read only if they are needed."""

    ms: int
    n: int
    reply: _Reply = field(repr=False)
    #: The place of its shard in the call.
    place: int

    @property
    def position(self) -> str:
        """The position of the entry in its stream."""
        return f"{self.ms}-{self.n}"

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The transactions that callers were told of."""
        _, _, heads, packed, dropped = self.reply
        spends = CallReply(packed, len(heads) // SPEND.size).spends()
        return tuple(
            identity
            for number, ((_, shard, _, _, identity), fields) in enumerate(
                zip(SPEND.iter_unpack(heads), spends, strict=True)
            )
            # A spend without a record has no index.
            if shard == self.place + 1 and fields[-2] and number not in dropped
        )

    def is_in(self, payload: bytes | None) -> bool:
        """Return whether these are the bytes of the entry, and not of another at its position."""
        return payload is not None and self.ids[0] in payload


class AnswerLog:
    """The newest answers that came by one link."""

    def __init__(self) -> None:
        self._replies: deque[_Reply] = deque()
        #: By shard, and both numbers of the position: what was reported as lost.
        self._reported: set[tuple[int, int, int]] = set()
        #: Whether an answer was forgotten, so that more may be lost than it can name.
        self.is_cut = False
        #: Whether its link is closed, so that nothing is added.
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._replies)

    def note(
        self,
        shards: Sequence[int],
        heads: Sequence[bytes],
        reply: bytes,
        dropped: Sequence[int],
        now_s: float,
    ) -> None:
        """Remember the answers of a call.

        Args:
            shards: The numbers of its shards.
            heads: Its packed spends.
            reply: The reply.
            dropped: The places of the spends whose callers had given up.
            now_s: A monotonic time, in seconds.
        """
        replies = self._replies
        if replies and (replies[0][0] < now_s - REMEMBERED_S or len(replies) >= REPLIES_MAX):
            self._forget_oldest(now_s)
        replies.append((now_s, shards, b"".join(heads), reply, dropped))

    def _forget_oldest(self, now_s: float) -> None:
        """Forget a reply, and a second one that is too old, so that the log shrinks, too."""
        self._replies.popleft()
        self.is_cut = True
        if self._replies and self._replies[0][0] < now_s - REMEMBERED_S:
            self._replies.popleft()

    def forget_older(self, than_s: float) -> None:
        """Forget the answers before a time."""
        while self._replies and self._replies[0][0] < than_s:
            self._replies.popleft()
            self.is_cut = True

    def forget_lost(self, shard: int, lost: Sequence[Answered]) -> None:
        """Leave out what was reported as lost."""
        self._reported.update((shard, one.ms, one.n) for one in lost)

    def newest(self, shard: int) -> Answered | None:
        """Return the newest answer of a shard, if it is one of the last that were noted.

        A call that was sent again may be noted after newer ones, so a few are compared.
        """
        last = (one for one in reversed(self._replies) if shard in one[1])
        return max(self._answered(shard, islice(last, LATE_MAX)), key=_order, default=None)

    async def of_shard(self, shard: int) -> list[Answered]:
        """Return what was answered of a shard, in the order of its stream.

        Others use the loop meanwhile.
        """
        replies, found = tuple(self._replies), list[Answered]()
        for start in range(0, len(replies), READ_MAX):
            found += self._answered(shard, replies[start : start + READ_MAX])
            await asyncio.sleep(0)
        return sorted(found, key=_order)

    def _answered(self, shard: int, replies: Iterable[_Reply]) -> Iterator[Answered]:
        for reply in replies:
            if shard in reply[1]:
                place = reply[1].index(shard)
                at = address_of(reply[3], place)
                if at is not None and (shard, *at) not in self._reported:
                    one = Answered(*at, reply, place)
                    # Perhaps all its callers had given up.
                    if not reply[4] or one.ids:
                        yield one


def _order(one: Answered) -> tuple[int, int]:
    return one.ms, one.n


async def first_missing(answered: Sequence[_T], is_there: Callable[[_T], Awaitable[bool]]) -> int:
    """Return the index of the first one whose entry is missing; their number if none is.

    Args:
        answered: What was answered by one link of one shard, in the order of the stream.
        is_there: Whether the stream still has the entry.
    """
    if not answered or await is_there(answered[-1]):
        return len(answered)
    first, missing = 0, len(answered) - 1
    while first < missing:
        middle = (first + missing) // 2
        if await is_there(answered[middle]):
            first = middle + 1
        else:
            missing = middle
    return first
