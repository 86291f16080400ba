"""The values: what they accept, what they compute."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate import CreditPolicy, CreditTransaction, CreditTransactionId, TransactionType
from faregate.domain.errors import AmountError, InvalidArgumentError, TransactionIdError
from faregate.domain.transaction import CREDITS_MAX
from faregate.domain.user import user_id_of

DEDUCT = CreditTransaction(
    id=CreditTransactionId.mint(1_800_000_000_000),
    user_id=uuid4(),
    amount=-1,
    type=TransactionType.DEDUCT,
    description="request",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    sequence=2,
    balance_after=4,
    epoch=1,
)


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (TransactionType.DEDUCT, [0, -1, -CREDITS_MAX], [1]),
        (TransactionType.ADD, [1, CREDITS_MAX], [0, -1]),
        (TransactionType.REFUND, [1], [0, -1]),
        (TransactionType.ADMIN_ADJUSTMENT, [1, -1], [0]),
    ],
)
def test_a_type_decides_the_sign(
    kind: TransactionType, allowed: list[int], refused: list[int]
) -> None:
    """No row can say that it takes credits and give them."""
    deduct = CreditTransactionId(uuid4()) if kind is TransactionType.REFUND else None
    for amount in allowed:
        assert replace(DEDUCT, type=kind, amount=amount, refund_of=deduct).amount == amount
    for amount in refused:
        with pytest.raises(AmountError, match="sign"):
            replace(DEDUCT, type=kind, amount=amount, refund_of=deduct)


@pytest.mark.parametrize("amount", [1.0, True, "1", None, CREDITS_MAX + 1, -CREDITS_MAX - 1])
def test_an_amount_is_a_whole_number_in_range(amount: int) -> None:
    """Floats, booleans and what the column cannot hold are refused."""
    with pytest.raises(AmountError):
        replace(DEDUCT, type=TransactionType.ADMIN_ADJUSTMENT, amount=amount)


def test_only_a_refund_refers_to_a_deduct() -> None:
    """A refund without its deduct could not be bounded."""
    with pytest.raises(InvalidArgumentError, match="refers"):
        replace(DEDUCT, refund_of=DEDUCT.id)
    with pytest.raises(InvalidArgumentError, match="refers"):
        replace(DEDUCT, type=TransactionType.REFUND, amount=1)


@pytest.mark.parametrize("change", [{"balance_after": CREDITS_MAX + 1}, {"sequence": 0}])
def test_a_transaction_has_a_place_and_a_balance(change: dict[str, int]) -> None:
    """Sequences start at 1, and a balance fits its column."""
    with pytest.raises(InvalidArgumentError):
        replace(DEDUCT, **change)  # type: ignore[arg-type]


@given(time_ms=st.integers(0, 2**48 - 1))
def test_a_minted_id_carries_its_time(time_ms: int) -> None:
    """The age of an id is known from the id alone (RFC 9562, section 5.7)."""
    minted = CreditTransactionId.mint(time_ms)
    assert minted.time_ms == time_ms
    assert minted.value.version == 7
    assert CreditTransactionId.parse(str(minted)) == minted


@given(source=st.uuids(), other=st.uuids())
def test_a_derived_id_stands_for_one_thing(source: UUID, other: UUID) -> None:
    """The same purpose and source give the same id, anything else another."""
    derived = CreditTransactionId.derive("void", source)
    assert derived == CreditTransactionId.derive("void", source)
    assert derived != CreditTransactionId.derive("refund", source)
    assert (derived == CreditTransactionId.derive("void", other)) == (source == other)
    assert derived.time_ms is None


@pytest.mark.parametrize("text", ["", "x", "1234", "{}"])
def test_an_id_that_is_no_uuid_is_refused(text: str) -> None:
    """The error is typed and names the text."""
    with pytest.raises(TransactionIdError, match="UUID"):
        CreditTransactionId.parse(text)
    with pytest.raises(TransactionIdError):
        CreditTransactionId(text)  # type: ignore[arg-type]


def test_another_identity_maps_to_one_user() -> None:
    """By its name within a namespace; an empty name is nobody."""
    namespace = uuid4()
    assert user_id_of(namespace, "key-1") == user_id_of(namespace, "key-1")
    assert user_id_of(namespace, "key-1") != user_id_of(namespace, "key-2")
    assert user_id_of(namespace, "key-1") != user_id_of(uuid4(), "key-1")
    with pytest.raises(InvalidArgumentError):
        user_id_of(namespace, "")


@pytest.mark.parametrize("bad", [-1, 1.5, True, "3", CREDITS_MAX + 1])
def test_a_policy_counts_in_whole_credits(bad: int) -> None:
    """Neither starting credits nor a cost may be negative or broken."""
    with pytest.raises(AmountError, match="starting_credits"):
        CreditPolicy(starting_credits=bad)
    with pytest.raises(AmountError, match="request_cost"):
        CreditPolicy(request_cost=bad)
