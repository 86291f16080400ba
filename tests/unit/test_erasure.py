"""When users who were deleted are erased, and what is left to the next look."""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import pytest

from clocks import Seconds
from faregate.domain.errors import LedgerUnavailableError
from faregate.ops.erasure import DELETIONS_INTERVAL_S, GRACE_S, Erasure
from faregate.ports import ShardRecords

USERS = [UUID(int=number) for number in range(3)]


class FakeDeletions:
    """The keys of users, and who of them was deleted."""

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self.deleted: list[UUID] = []
        self.balances, self.others = set(USERS), set(USERS)
        #: How long it takes to look through all keys, in seconds.
        self.keys_s = 0.0
        self.error: Exception | None = None
        self.made = self.stored = 0

    def users_to_erase(self, count_max: int) -> list[UUID]:
        return self.deleted[:count_max]

    def note_erased(self, user_ids: Sequence[UUID]) -> None:
        self.deleted = [user_id for user_id in self.deleted if user_id not in user_ids]

    def forget(self, user_ids: Iterable[UUID]) -> None:
        self.balances -= set(user_ids)

    def records(self, user_ids: Sequence[UUID]) -> dict[UUID, ShardRecords]:
        return dict.fromkeys(user_ids, ShardRecords(1, self.made, self.stored))

    def erase(self, user_ids: Sequence[UUID]) -> Iterator[int]:
        yield 0
        self.clock.advance(self.keys_s)
        if self.error:
            raise self.error
        self.others -= set(user_ids)
        yield len(user_ids)


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def deletions(clock: Seconds) -> FakeDeletions:
    return FakeDeletions(clock)


@pytest.fixture
def erasure(clock: Seconds, deletions: FakeDeletions) -> Erasure:
    return Erasure(deletions, deletions, clock)


def look_until_erased(erasure: Erasure, clock: Seconds) -> float:
    """Look once an interval; return after how many seconds somebody was erased."""
    began = clock()
    while not erasure.check_deletions():
        clock.advance(DELETIONS_INTERVAL_S)
        assert clock() - began <= 2 * GRACE_S
    return clock() - began


def test_accounts_go_at_once_and_other_keys_once_no_gate_can_bring_them_back(
    erasure: Erasure, deletions: FakeDeletions, clock: Seconds
) -> None:
    """Those of a user who is deleted meanwhile wait for as long again."""
    deletions.deleted = USERS[:1]
    assert erasure.check_deletions() == 0
    assert (deletions.balances, deletions.others) == (set(USERS[1:]), set(USERS))
    clock.advance(GRACE_S / 2)
    deletions.deleted = USERS[:2]
    assert look_until_erased(erasure, clock) == GRACE_S / 2
    assert (deletions.balances, deletions.others) == ({USERS[2]}, set(USERS[1:]))
    assert look_until_erased(erasure, clock) == GRACE_S / 2
    assert (deletions.others, deletions.deleted) == ({USERS[2]}, [])


def test_users_are_erased_however_long_it_takes_to_look_through_all_keys(
    erasure: Erasure, deletions: FakeDeletions, clock: Seconds
) -> None:
    """An hour is longer than any job of the worker may last."""
    deletions.deleted, deletions.keys_s = USERS[:2], 3_600.0
    look_until_erased(erasure, clock)
    assert (deletions.others, deletions.deleted) == ({USERS[2]}, [])


def test_an_interrupted_erasure_is_completed_by_the_next_check(
    erasure: Erasure, deletions: FakeDeletions, clock: Seconds
) -> None:
    """It was seen long enough ago; its id is not forgotten before its keys are gone."""
    deletions.deleted, deletions.error = USERS[:1], LedgerUnavailableError("away")
    with pytest.raises(LedgerUnavailableError):
        look_until_erased(erasure, clock)
    assert (deletions.others, deletions.deleted) == (set(USERS), USERS[:1])
    deletions.error = None
    assert erasure.check_deletions() == 1
    assert (deletions.others, deletions.deleted) == (set(USERS[1:]), [])


def test_an_id_stays_until_all_records_of_its_user_are_read(
    erasure: Erasure, deletions: FakeDeletions, clock: Seconds
) -> None:
    """Its keys go before, once; records that come later are of others."""
    deletions.deleted, deletions.made = USERS[:1], 5
    for _ in range(int(2 * GRACE_S / DELETIONS_INTERVAL_S)):
        assert erasure.check_deletions() == 0
        clock.advance(DELETIONS_INTERVAL_S)
    assert deletions.others == set(USERS[1:])
    deletions.others = set(USERS)
    deletions.made, deletions.stored = 9, 5
    assert erasure.check_deletions() == 1
    assert (deletions.others, deletions.deleted) == (set(USERS), [])
