"""Charges: what they take, and how a retry is known."""

from faregate.domain.attempt import Event
from faregate.domain.decision import Verdict
from faregate.domain.errors import TransactionConflictError, TransactionIdError
from faregate.domain.request import VoidOutcome
from faregate.domain.windows import ATTEMPT_MS_MAX, MINTED_ID_AHEAD_MS_MAX
from spec.steps import (
    DAY_MS,
    MINUTE_MS,
    Step,
    add,
    batch,
    charge,
    given,
    hold,
    read,
    step_back,
    void,
    wait,
)

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
    "a charge of nothing is a peek, and is recorded only for a user who is never refused": [
        charge("a", 5, credits=0),
        charge("b", 0, credits=0),
        charge("b", 0, credits=0),
        charge("c", 0, credits=0, is_unlimited=True),
        charge("c", 0, credits=0, is_unlimited=True, repeated=True),
    ],
    "a retry is answered as before and charges nothing": [
        charge("a", 2, credits=3),
        charge("b", 1, credits=2),
        charge("a", 2, credits=3, repeated=True),
        charge("c", 1, credits=1),
    ],
    "a known id with another cost is a conflict": [
        charge("a", 2, credits=3),
        charge("a", 3, answer=TransactionConflictError),
        given(charge("b", 1, credits=2)),
        given(charge("b", 2, answer=TransactionConflictError)),
    ],
    "an id of the caller's is known for a minute": [
        given(charge("a", 2, credits=3)),
        given(charge("a", 2, credits=3, repeated=True)),
        wait(MINUTE_MS),
        given(charge("a", 2, credits=3, repeated=True)),
        wait(1),
        given(charge("a", 2, answer=TransactionIdError)),
    ],
    "an id of the caller's lies between a minute ago and five seconds ahead": [
        given(charge("old", 1, age_ms=MINUTE_MS + 1, answer=TransactionIdError)),
        given(charge("ahead", 1, age_ms=-5_001, answer=TransactionIdError)),
        given(charge("recent", 1, age_ms=MINUTE_MS, credits=4)),
        given(charge("near", 1, age_ms=-5_000, credits=3)),
        given(charge("near", 1, credits=3, repeated=True)),
        wait(MINUTE_MS + 5_000),
        given(charge("near", 1, credits=3, repeated=True)),
    ],
    "a refused id of the caller's may be tried again": [
        given(charge("a", 6, answer=Verdict.OUT_OF_CREDITS)),
        add("more", 1, credits=6),
        given(charge("a", 6, credits=0)),
    ],
    "an id that is voided is refused as such, however old it is": [
        given(charge("a", 2, credits=3)),
        void("a", answer=VoidOutcome.REFUNDED),
        wait(DAY_MS),
        given(charge("a", 2, answer=Verdict.VOIDED, credits=5)),
        wait(1),
        given(charge("a", 2, answer=TransactionIdError)),
    ],
    "spends of one call are decided one after another": [
        batch(
            charge("a", 2, credits=3),
            charge("b", 2, user="bob", credits=3),
            charge("c", 4, answer=Verdict.OUT_OF_CREDITS, credits=3),
            charge("d", 3, credits=0),
        ),
        batch(
            hold("e", 3, user="bob", credits=0, held=3),
            charge("f", 1, answer=Verdict.OUT_OF_CREDITS, credits=0),
            charge("g", 1, user="bob", answer=Verdict.CREDITS_HELD, credits=0),
            charge("h", 1, user="nobody", answer=Verdict.UNKNOWN_USER),
        ),
        batch(
            charge("a", 2, repeated=True, credits=3),
            charge("b", 1, user="bob", answer=TransactionConflictError),
            charge("i", 1, age_ms=-MINTED_ID_AHEAD_MS_MAX - 1, answer=Event.AHEAD),
        ),
        read(credits=0, sequence=3),
        read(user="bob", credits=0, held=3, sequence=3),
    ],
    "a clock that steps back takes no record back in time": [
        charge("a", 1, credits=4),
        step_back(5_000),
        charge("b", 1, age_ms=-5_000, credits=3),
        charge("b", 1, credits=3, repeated=True),
        charge("c", 1, age_ms=-5_000 - MINTED_ID_AHEAD_MS_MAX - 1, answer=Event.AHEAD),
        wait(5_001),
        charge("d", 1, age_ms=ATTEMPT_MS_MAX, credits=2),
    ],
}
