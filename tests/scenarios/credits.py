"""Credits that are given, and balances that are corrected."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, TransactionConflictError
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CREDITS_MAX
from spec.steps import Step, add, adjust, charge, given, refund, void

CREDITS: dict[str, list[Step]] = {
    "credits are added once": [
        add("a", 10, credits=15),
        add("a", 10, credits=15, repeated=True),
        add("a", 11, answer=TransactionConflictError),
    ],
    "an adjustment goes below zero only where it says so": [
        adjust("a", -5, credits=0),
        adjust("b", -1, answer=Verdict.OUT_OF_CREDITS, credits=0),
        adjust("c", -1, negative_allowed=True, credits=-1),
        charge("d", 0, is_unlimited=True, credits=-1),
        charge("e", 1, answer=Verdict.OUT_OF_CREDITS, credits=-1),
        adjust("f", 3, credits=2),
    ],
    "no balance leaves the range of the column": [
        add("a", CREDITS_MAX - 5, credits=CREDITS_MAX),
        add("b", 1, answer=AmountError),
        charge("c", 1, credits=CREDITS_MAX - 1),
        add("d", 1, credits=CREDITS_MAX),
        refund("e", of="c", answer=AmountError),
        void("c", answer=AmountError),
        charge("f", 1, credits=CREDITS_MAX - 1),
        void("c", answer=VoidOutcome.REFUNDED),
    ],
    "an id of another type is a conflict": [
        add("a", 2, credits=7),
        given(charge("a", 2, answer=TransactionConflictError)),
        void("a", answer=VoidOutcome.KEPT),
        adjust("b", 2, credits=9),
        add("b", 2, answer=TransactionConflictError),
    ],
    "a credit and a refund have ids of their own": [
        charge("a", 2, credits=3),
        add("a", 2, answer=TransactionConflictError),
        adjust("a", -2, answer=TransactionConflictError),
        refund("a", of="a", answer=TransactionConflictError),
        refund("r", of="a", amount=1, credits=4),
        add("r", 1, answer=TransactionConflictError),
        charge("b", 2, credits=2),
        refund("r", of="b", answer=TransactionConflictError),
        refund("s", of="b", credits=4),
    ],
    "a refund has an id of its own, though it tells no time": [
        charge("a", 2, credits=3),
        charge("b", 2, credits=1),
        add("x without a time", 1, credits=2),
        refund("x without a time", of="a", answer=TransactionConflictError),
        refund("y without a time", of="a", credits=4),
        refund("y without a time", of="b", answer=TransactionConflictError),
        add("y without a time", 2, answer=TransactionConflictError),
    ],
    "amounts that are not amounts are refused": [
        charge("a", -1, answer=AmountError),
        charge("b", CREDITS_MAX + 1, answer=AmountError),
        add("c", 0, answer=AmountError),
        add("d", -3, answer=AmountError),
        adjust("e", 0, answer=AmountError),
        charge("f", 5, credits=0),
    ],
}
