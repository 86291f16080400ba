"""The attempts that wait to be sent, in their order, with a share for each user."""

from asyncio import Future
from collections import deque

from faregate.adapters.redis.encoding import ALONE, PackedPolicy
from faregate.adapters.redis.keys import Shard
from faregate.domain.attempt import Attempt, AttemptError, Event
from faregate.domain.decision import Decision
from faregate.domain.errors import FaregateError

#: One user may fill this part of a call while others wait: a quarter.
_USER_SHARE = 4
#: One user may fill this part of a queue that is half full: a quarter.
_USER_PART = 4


class Waiting:
    """A packed attempt, and the caller that waits for its decision."""

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

    #: Receives the decision.
    future: Future[Decision]
    #: Since when it has been waiting.
    since_s: float
    #: The index of its shard in its call.
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
        #: The key of the account, which also identifies the user.
        self.account = account
        #: The packed policy of the attempt, its flags, and its optional sections.
        self.policy, self.flags, self.sections = packed

    def fail(self, error: Exception) -> None:
        """Fail its caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


class FairQueue:
    """First in, first out, within the share of each user."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting, count_max: int) -> bool:
        """Add an attempt; return False if the queue, or the share of its user, is full."""
        account, length = waiting.account, len(self._waiting)
        count = self._counts.get(account, 0)
        if length >= count_max // 2 and (length >= count_max or count >= count_max // _USER_PART):
            return False
        self._counts[account] = count + 1
        self._waiting.append(waiting)
        return True

    def take(self, count_max: int) -> list[Waiting]:
        """Take the attempts of the next call; those without a waiting caller are dropped.

        While others wait, one user gets only its share of the call. A user has at most one spend in
        a call that must be the only one of the user there.
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
        """Fill a call that has room with attempts beyond the shares."""
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
        """Return when the first one began to wait; None if the queue is empty."""
        return self._waiting[0].since_s if self._waiting else None

    def drop_older(self, than_s: float, event: Event, message: str) -> None:
        """Fail the attempts that began to wait before a time."""
        while self._waiting and self._waiting[0].since_s <= than_s:
            self._fail(self._waiting.popleft(), AttemptError(event, message))

    def drop_all(self, error: FaregateError) -> None:
        """Fail all attempts."""
        while self._waiting:
            self._fail(self._waiting.popleft(), error)

    def _fail(self, waiting: Waiting, error: FaregateError) -> None:
        self._forget(waiting)
        waiting.fail(error)

    def _forget(self, waiting: Waiting) -> None:
        count = self._counts.pop(waiting.account)
        if count > 1:
            self._counts[waiting.account] = count - 1
