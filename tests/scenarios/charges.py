"""Charges: what they take, and how a retry is known."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import TransactionConflictError, TransactionIdError
from faregate.domain.request import VoidOutcome
from play.steps import DAY_MS, Step, add, charge, void, wait

CHARGES: dict[str, list[Step]] = {
    "a charge takes its cost": [
        charge("a", 2, credits=3),
        charge("b", 3, credits=0),
    ],
    "a charge that costs more than there is takes nothing": [
        charge("a", 6, answer=Verdict.OUT_OF_CREDITS, credits=5),
        charge("b", 5, credits=0),
        charge("c", 1, answer=Verdict.OUT_OF_CREDITS, credits=0),
    ],
    "a charge of nothing is a peek, and writes nothing unless it is to be recorded": [
        charge("a", 5, credits=0),
        charge("b", 0, credits=0),
        charge("b", 0, credits=0),
        charge("c", 0, credits=0, records_zero=True),
        charge("c", 0, credits=0, records_zero=True, repeated=True),
    ],
    "a retry is answered as before and charges nothing": [
        charge("a", 2, credits=3),
        charge("b", 1, credits=2),
        charge("a", 2, credits=3, repeated=True),
        charge("c", 1, credits=1),
    ],
    "a retry of a refusal is a new attempt": [
        charge("a", 6, answer=Verdict.OUT_OF_CREDITS),
        add("more", 1, credits=6),
        charge("a", 6, credits=0),
    ],
    "a known id with another cost is a conflict": [
        charge("a", 2, credits=3),
        charge("a", 3, answer=TransactionConflictError),
        charge("b", 1, credits=2),
    ],
    "an id older than a minute or from the future is refused": [
        charge("old", 1, age_ms=61_000, answer=TransactionIdError),
        charge("future", 1, age_ms=-8_000, answer=TransactionIdError),
        charge("recent", 1, age_ms=50_000, credits=4),
    ],
    "an id that is spent is refused as such, however old it is": [
        charge("a", 2, credits=3),
        void("a", answer=VoidOutcome.REFUNDED),
        charge("b", 1, credits=4),
        wait(DAY_MS),
        charge("a", 2, answer=Verdict.VOIDED, credits=4),
        charge("b", 1, answer=TransactionIdError),
        wait(1),
        charge("a", 2, answer=TransactionIdError),
    ],
    "a first attempt that arrives after its retry charges nothing": [
        charge("a", 2, credits=3),
        charge("b", 1, credits=2),
        charge("a", 2, fresh=True, credits=3, repeated=True),
        charge("a", 1, fresh=True, answer=TransactionConflictError),
    ],
}
