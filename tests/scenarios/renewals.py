"""Periods that begin without a request."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, LedgerUnavailableError
from faregate.domain.transaction import CREDITS_MAX
from spec.steps import (
    CARRYING,
    HOUR_MS,
    TEN,
    TWO,
    Done,
    Step,
    add,
    charge,
    drain,
    fill,
    read,
    renew,
    wait,
)

RENEWED, CURRENT = Done.RENEWED, Done.CURRENT

RENEWALS: dict[str, list[Step]] = {
    "a period that lasts, or was not touched, or never began, is left alone": [
        renew(TEN, answer=CURRENT),
        charge("a", 4, allowance=TEN, credits=11, left=6),
        renew(TEN, answer=CURRENT),
        wait(HOUR_MS),
        renew(TEN, answer=RENEWED, added=4),
        renew(TEN, answer=CURRENT),
        read(credits=15, left=10, sequence=4),
        wait(HOUR_MS),
        renew(TEN, answer=CURRENT),
        charge("b", 1, allowance=TEN, credits=14, left=9),
    ],
    "what is carried over is reckoned with, and a smaller allowance adds nothing": [
        charge("a", 6, allowance=CARRYING, credits=9, left=4),
        wait(HOUR_MS),
        renew(TWO, answer=CURRENT),
        renew(CARRYING, answer=RENEWED, added=8),
        read(allowance=CARRYING, credits=17, left=12),
    ],
    "a charge finds what a renewal has begun": [
        charge("a", 10, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        renew(TEN, answer=RENEWED, added=10),
        charge("b", 3, allowance=TEN, credits=12, left=7),
        wait(HOUR_MS),
        charge("c", 1, allowance=TEN, credits=14, left=9),
        renew(TEN, answer=CURRENT),
    ],
    "what cannot be renewed changes nothing": [
        renew(TEN, user="nobody", answer=Verdict.UNKNOWN_USER),
        charge("a", 10, allowance=TEN, credits=5),
        add("b", CREDITS_MAX - 5, credits=CREDITS_MAX),
        wait(HOUR_MS),
        renew(TEN, answer=AmountError),
        charge("c", 10, credits=CREDITS_MAX - 10),
        fill(),
        renew(TEN, answer=LedgerUnavailableError),
        read(credits=CREDITS_MAX - 10, left=0),
        wait(100_000),
        drain(),
        renew(TEN, answer=RENEWED, added=10),
    ],
}
