"""The attempts that wait to be sent: in their order, but no user ahead of all others."""

from asyncio import Future
from collections import deque

from faregate.adapters.redis.encoding import ALONE, PackedPolicy
from faregate.adapters.redis.keys import Shard
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision

#: Which part of a call one user may fill while others wait: a quarter.
_USER_SHARE = 4
#: Which part of a queue that is half full one user may fill: a quarter.
_USER_PART = 4


class Waiting:
    """An attempt, packed as far as it can be, and the caller who waits for its decision."""

    __slots__ = (
        "account",
        "attempt",
        "flags",
        "future",
        "place",
        "policy",
        "sections",
        "shard",
        "since_s",
    )

    #: Gets the decision.
    future: Future[Decision]
    #: Since when it has been waiting.
    since_s: float
    #: The place of its shard among those of the call in which it is sent.
    place: int

    def __init__(
        self,
        attempt: Attempt,
        shard: Shard,
        account: bytes,
        packed: tuple[PackedPolicy, int, bytes],
    ) -> None:
        self.attempt = attempt
        self.shard = shard
        #: The key of the account. It stands for the user, too.
        self.account = account
        #: Its policy, its flags, and the sections that few spends have.
        self.policy, self.flags, self.sections = packed

    def fail(self, error: Exception) -> None:
        """Tell the caller that there is no decision, unless it has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class FairQueue:
    """First come, first served, within the share of each user."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting, count_max: int) -> bool:
        """Let one more wait, unless as many do as may; return whether it does."""
        account, length = waiting.account, len(self._waiting)
        count = self._counts.get(account, 0)
        if length >= count_max // 2 and (length >= count_max or count >= count_max // _USER_PART):
            return False
        self._counts[account] = count + 1
        self._waiting.append(waiting)
        return True

    def take(self, count_max: int) -> list[Waiting]:
        """Take the next ones for one call; those whose callers have gone are dropped.

        One user fills no more than its share as long as others wait, and has no more than one
        spend in a call that must stand alone there.
        """
        share = max(1, count_max // _USER_SHARE)
        selected: list[Waiting] = []
        passed_over: list[Waiting] = []
        counts: dict[bytes, int] = {}
        alone: set[bytes] = set()
        while self._waiting and len(selected) < count_max:
            waiting = self._waiting.popleft()
            if waiting.future.done():
                self._forget(waiting)
                continue
            account, is_alone = waiting.account, waiting.flags & ALONE
            count = counts.get(account, 0)
            if count and (count >= share or (is_alone and account in alone)):
                passed_over.append(waiting)
                continue
            counts[account] = count + 1
            if is_alone:
                alone.add(account)
            selected.append(waiting)
        if passed_over:
            self._fill(selected, passed_over, count_max, alone)
        for waiting in selected:
            self._forget(waiting)
        return selected

    def _fill(
        self, selected: list[Waiting], passed_over: list[Waiting], count_max: int, alone: set[bytes]
    ) -> None:
        """Fill a call that has room left with those that were passed over; the rest waits on."""
        rest = []
        for waiting in passed_over:
            is_alone = waiting.flags & ALONE
            if len(selected) >= count_max or (is_alone and waiting.account in alone):
                rest.append(waiting)
                continue
            if is_alone:
                alone.add(waiting.account)
            selected.append(waiting)
        self._waiting.extendleft(reversed(rest))

    def since_s(self) -> float | None:
        """Return since when the first one has been waiting; None if nobody waits."""
        return self._waiting[0].since_s if self._waiting else None

    def drop_older(self, than_s: float, event: Event, message: str) -> None:
        """Fail those that have been waiting since before a time."""
        while self._waiting and self._waiting[0].since_s <= than_s:
            self._fail(self._waiting.popleft(), event, message)

    def drop_all(self, event: Event, message: str) -> None:
        """Fail all that wait."""
        while self._waiting:
            self._fail(self._waiting.popleft(), event, message)

    def _fail(self, waiting: Waiting, event: Event, message: str) -> None:
        self._forget(waiting)
        waiting.fail(AttemptError(event, message))

    def _forget(self, waiting: Waiting) -> None:
        count = self._counts.pop(waiting.account)
        if count > 1:
            self._counts[waiting.account] = count - 1
