"""The names of keys: tags that fall evenly, and that no user can move."""

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dealt_slots import shards_on_each
from faregate.adapters.redis import keys
from faregate.domain.transaction import CreditTransactionId


@given(user_id=st.uuids(), shard_count=st.integers(1, 100))
def test_a_shard_is_within_the_shard_count(user_id: UUID, shard_count: int) -> None:
    """And always the same one, by the last bytes of the id."""
    shard = keys.shard_of(user_id, shard_count)
    assert 0 <= shard < shard_count
    assert shard == int.from_bytes(user_id.bytes[-2:]) % shard_count


@pytest.mark.parametrize("count", [1, 2, 3, 16, 64, 100])
def test_a_tag_is_the_smallest_number_of_its_slot(count: int) -> None:
    """From 1,000 on; its slot is the middle of its own of as many equal ranges."""
    smallest: dict[int, int] = {}
    for number in range(1_000, 100_000):
        smallest.setdefault(keys.slot(str(number).encode()), number)
    for shard in keys.shards(count):
        middle = int((shard.number + 0.5) * keys.SLOTS / count)
        assert shard.base == b"fg:{%d}" % smallest[middle]


@given(shard_count=st.integers(1, 100), nodes=st.integers(1, 100))
@example(32, 3)
@example(100, 16)
def test_shards_fall_evenly_on_a_cluster(shard_count: int, nodes: int) -> None:
    """Within one, for each number of primaries among which the tools deal out the slots."""
    counts = shards_on_each(shard_count, nodes)
    assert sum(counts) == shard_count
    assert max(counts) - min(counts) <= 1


def test_the_slot_is_that_of_redis() -> None:
    """The value of its specification."""
    assert keys.slot(b"123456789") == 0x31C3


def test_the_tag_stands_before_what_a_user_can_choose() -> None:
    """So no id can move its keys to another slot."""
    shard = keys.shards(16)[7]
    braces = b"{}" * 8
    made = CreditTransactionId(UUID(bytes=braces))
    for name in (
        *(shard.account(braces), shard.state, shard.stream, shard.holds, shard.lost),
        *(shard.shadow(b"12345678", braces), shard.shadow_counts(b"12345678")),
        *(shard.deduct(made), shard.remembered(made), shard.response(made), shard.limit(braces)),
        *(shard.answers(made), shard.last_alignment(braces)),
        *shard.idempotency(braces),
    ):
        assert name.startswith(shard.base)
        assert name.partition(b"}")[0] + b"}" == shard.base
    assert keys.slot(shard.base[4:-1]) == shard.slot
