"""The names of keys: tags that fall evenly, and that no user can move."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.adapters.redis import keys
from faregate.domain.transaction import CreditTransactionId


@given(user_id=st.uuids(), shard_count=st.integers(1, 100))
def test_a_shard_is_within_the_shard_count(user_id: UUID, shard_count: int) -> None:
    """And always the same one, by the last bytes of the id."""
    shard = keys.shard_of(user_id, shard_count)
    assert 0 <= shard < shard_count
    assert shard == int.from_bytes(user_id.bytes[-2:]) % shard_count


@pytest.mark.parametrize("count", [1, 2, 3, 16, 64, 100])
def test_shards_fall_evenly_on_a_cluster(count: int) -> None:
    """Each has the smallest number whose slot lies in its own of as many equal ranges."""
    for shard in keys.shards(count):
        tag = int(shard.base[4:-1])
        ranges = [keys.slot(str(n).encode()) * count // keys.SLOTS for n in range(tag + 1)]
        assert ranges.index(shard.number) == tag


def test_the_slot_is_that_of_redis() -> None:
    """The value of its specification."""
    assert keys.slot(b"123456789") == 0x31C3


def test_the_tag_stands_before_what_a_user_can_choose() -> None:
    """So no id can move its keys to another slot."""
    shard = keys.shards(16)[7]
    braces = b"{}" * 8
    made = CreditTransactionId(UUID(bytes=braces))
    for name in (
        *(shard.account(braces), shard.state, shard.stream, shard.holds),
        *(shard.shadow(b"12345678", braces), shard.shadow_counts(b"12345678")),
        *(shard.deduct(made), shard.remembered(made), shard.response(made), shard.limit(braces)),
        *(shard.answers(made), shard.last_alignment(braces)),
        *shard.idempotency(braces),
    ):
        assert name.startswith(shard.base)
        assert name.partition(b"}")[0] + b"}" == shard.base
