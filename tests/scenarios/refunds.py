"""Refunds and voids: what goes back, once, and no more than was taken."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import TransactionConflictError
from faregate.domain.request import DurableDeduct, VoidOutcome
from steps import MINUTE_MS, Step, add, charge, hold, refund, void

REFUNDS: dict[str, list[Step]] = {
    "a refund gives a charge back once": [
        charge("a", 3, credits=2),
        refund("r", of="a", credits=5),
        refund("r", of="a", repeated=True),
        refund("s", of="a", answer=Verdict.REFUND_EXCEEDED, credits=5),
    ],
    "partial refunds add up to the charge at most": [
        charge("a", 5, credits=0),
        refund("r", of="a", amount=2, credits=2),
        refund("s", of="a", amount=4, answer=Verdict.REFUND_EXCEEDED, credits=2),
        refund("t", of="a", amount=2, credits=4),
        refund("u", of="a", credits=5),
        refund("r", of="a", amount=3, answer=TransactionConflictError),
    ],
    "a retry of a charge that was given back never runs for free": [
        charge("a", 2, credits=3),
        refund("r", of="a", credits=5),
        charge("a", 2, answer=Verdict.VOIDED, credits=5),
    ],
    "a deduct that nobody knows cannot be refunded": [
        refund("r", of="nothing", answer=Verdict.UNKNOWN_DEDUCT, credits=5),
        add("a", 2, credits=7),
        refund("s", of="a", answer=Verdict.UNKNOWN_DEDUCT, credits=7),
    ],
    "nobody is refunded what another user paid": [
        charge("a", 4, credits=1),
        hold("b", 1, credits=0),
        refund("r", of="a", amount=1, credits=1),
        refund("ann's r", of="ann's a", user="bob", answer=Verdict.UNKNOWN_DEDUCT, credits=5),
        refund("s", of="ann's b", user="bob", answer=Verdict.UNKNOWN_DEDUCT, credits=5),
        refund("s", of="a", credits=4),
    ],
    "an old deduct is refunded as far as Postgres says": [
        refund("r", of="old", answer=Verdict.UNKNOWN_DEDUCT, credits=5),
        refund("r", of="old", durable=DurableDeduct(amount=4, refunded=1), credits=8),
        refund(
            "s",
            of="old",
            durable=DurableDeduct(amount=4, refunded=1),
            answer=Verdict.REFUND_EXCEEDED,
            credits=8,
        ),
    ],
    "a refund of a charge that cost nothing gives nothing": [
        charge("a", 0, credits=5, records_zero=True),
        refund("r", of="a", answer=Verdict.REFUND_EXCEEDED, credits=5),
    ],
    "a void gives back what was charged, and the id is spent": [
        charge("a", 2, credits=3),
        void("a", answer=VoidOutcome.REFUNDED),
        void("a", answer=VoidOutcome.REFUNDED),
        charge("a", 2, answer=Verdict.VOIDED, credits=5),
        refund("r", of="a", answer=Verdict.REFUND_EXCEEDED, credits=5),
    ],
    "a void of what was never charged spends the id": [
        void("a", answer=VoidOutcome.REFUSED),
        charge("a", 2, answer=Verdict.VOIDED, credits=5),
        charge("b", 5, credits=0),
    ],
    "a void of a call that only retried leaves the charge that was answered before": [
        charge("a", 2, credits=3),
        void("a", asked_in_ms=1_000, answer=VoidOutcome.KEPT),
        charge("a", 2, credits=3, repeated=True),
        charge("b", 1, credits=2),
    ],
    "nothing is voided before the deadline": [
        void("a", deadline_in_ms=MINUTE_MS, answer=VoidOutcome.TOO_EARLY),
        charge("a", 2, credits=3),
    ],
}
