"""The possible contents of a row before it was changed, from the rows around it."""

from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import cast

from faregate.domain.repair import Row, RowContext
from faregate.domain.transaction import CREDITS_MAX, TransactionType

#: How many missing sequences of the user are tried.
_NUMBERS_MAX = 8


def candidates(row: Row, row_context: RowContext, missing: Iterable[int]) -> Iterator[Row]:
    """Iterate over possible contents of a row whose numbers or type were changed.

    A leaf must prove the right one.
    """
    if row["sequence"] is None:
        return
    amount, balance = _whole(row["amount"]), _whole(row["balance_after"])
    before = row_context.balance
    balances = {balance, before + amount}
    if row_context.after:
        balances.add(
            _whole(row_context.after["balance_after"]) - _whole(row_context.after["amount"])
        )
    amounts = {amount, *(one - before for one in balances)}
    sequences = dict.fromkeys([row["sequence"], *islice(missing, _NUMBERS_MAX)])
    for sequence, one, after, kind in product(sequences, amounts, balances, TransactionType):
        if max(abs(one), abs(after)) <= CREDITS_MAX:
            yield {
                **row,
                "sequence": sequence,
                "amount": one,
                "balance_after": after,
                "type": kind.value,
            }


def _whole(value: object) -> int:
    return cast("int", value)
