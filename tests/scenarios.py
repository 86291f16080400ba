"""What the ledger must answer, as tables that run on the memory adapter and on Redis alike.

A scenario is a list of steps for one user who starts with five credits, of sequence 1. Names
stand for transaction ids: the same name is the same id.
"""

from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    AmountError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.request import DurableDeduct, VoidOutcome
from faregate.domain.transaction import CREDITS_MAX
from steps import (
    BY_KEY,
    CARRYING,
    HOUR_MS,
    PER_SECOND,
    TEN,
    TWO,
    WINDOW,
    Step,
    add,
    adjust,
    charge,
    refund,
    void,
    wait,
)

SCENARIOS: dict[str, list[Step]] = {
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
    "a new period restores the allowance and leaves bought credits alone": [
        # Five are bought; ten more come in each period, and are spent first.
        charge("a", 1, allowance=TEN, credits=14, left=9),
        charge("b", 12, allowance=TEN, credits=2, left=0),
        charge("c", 3, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=2, left=0),
        wait(HOUR_MS - 1),
        charge("d", 3, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=2, left=0),
        wait(1),
        charge("e", 1, allowance=TEN, credits=11, left=9),
        charge("f", 11, allowance=TEN, credits=0, left=0),
    ],
    "what is left lapses with its period, but for what is carried over": [
        charge("a", 4, allowance=TEN, credits=11, left=6),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        wait(5 * HOUR_MS),
        charge("c", 1, allowance=CARRYING, credits=16, left=11),
        wait(HOUR_MS),
        charge("d", 1, allowance=CARRYING, credits=16, left=11),
    ],
    "an allowance that becomes smaller takes nothing back": [
        charge("a", 1, allowance=TEN, credits=14, left=9),
        wait(HOUR_MS),
        charge("b", 1, allowance=TWO, credits=13, left=8),
        charge("c", 8, allowance=TWO, credits=5, left=0),
        wait(HOUR_MS),
        charge("d", 1, allowance=TWO, credits=6, left=1),
    ],
    "a refusal begins no period": [
        charge("a", 16, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=15, left=10),
        charge("b", 0, allowance=TEN, credits=15, left=10),
        charge("c", 1, credits=4),
        wait(HOUR_MS),
        charge("d", 14, allowance=TEN, credits=0, left=0),
    ],
    "a refund in the same period restores bought credits first, then the allowance": [
        charge("a", 13, allowance=TEN, credits=2, left=0),
        refund("r", of="a", amount=4, credits=6, left=1),
        refund("s", of="a", amount=2, credits=8, left=3),
        refund("t", of="a", credits=15, left=10),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
    ],
    "a refund of an earlier period is the user's to keep": [
        charge("a", 10, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        refund("r", of="a", credits=24, left=9),
    ],
    "an old deduct is refunded to the allowance only while its period lasts": [
        charge("a", 9, allowance=TEN, credits=6, left=1),
        refund(
            "r",
            of="old",
            durable=DurableDeduct(amount=4, refunded=0, allowance_amount=4, period_start_ms=1),
            credits=10,
            left=1,
        ),
    ],
    "no top-up takes a balance out of its range": [
        add("a", CREDITS_MAX - 5, credits=CREDITS_MAX),
        charge("b", 1, allowance=TEN, answer=AmountError),
        charge("c", 1, credits=CREDITS_MAX - 1),
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
    "credits are added once": [
        add("a", 10, credits=15),
        add("a", 10, credits=15, repeated=True),
        add("a", 11, answer=TransactionConflictError),
    ],
    "an adjustment goes below zero only where it says so": [
        adjust("a", -5, credits=0),
        adjust("b", -1, answer=Verdict.OUT_OF_CREDITS, credits=0),
        adjust("c", -1, negative_allowed=True, credits=-1),
        charge("d", 0, records_zero=True, credits=-1),
        charge("e", 1, answer=Verdict.OUT_OF_CREDITS, credits=-1),
        adjust("f", 3, credits=2),
    ],
    "no balance leaves the range of the column": [
        add("a", CREDITS_MAX - 5, credits=CREDITS_MAX),
        add("b", 1, answer=AmountError),
        charge("c", 1, credits=CREDITS_MAX - 1),
        add("d", 1, credits=CREDITS_MAX),
        refund("e", of="c", answer=AmountError),
    ],
    "amounts that are not amounts are refused": [
        charge("a", -1, answer=AmountError),
        charge("b", CREDITS_MAX + 1, answer=AmountError),
        add("c", 0, answer=AmountError),
        add("d", -3, answer=AmountError),
        adjust("e", 0, answer=AmountError),
        charge("f", 5, credits=0),
    ],
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
    "a first attempt that arrives after its retry charges nothing": [
        charge("a", 2, credits=3),
        charge("b", 1, credits=2),
        charge("a", 2, fresh=True, credits=3, repeated=True),
        charge("a", 1, fresh=True, answer=TransactionConflictError),
    ],
    "a void of a call that only retried leaves the charge that was answered before": [
        charge("a", 2, credits=3),
        void("a", asked_in_ms=1_000, answer=VoidOutcome.KEPT),
        charge("a", 2, credits=3, repeated=True),
        charge("b", 1, credits=2),
    ],
    "an id of another type is a conflict": [
        add("a", 2, credits=7),
        charge("a", 2, answer=TransactionConflictError),
        void("a", answer=VoidOutcome.KEPT),
        adjust("b", 2, credits=9),
        add("b", 2, answer=TransactionConflictError),
    ],
    "nothing is voided before the deadline": [
        Step(do="void", name="a", answer=VoidOutcome.TOO_EARLY),
        charge("a", 2, credits=3),
    ],
    "a rate limit refuses before credits are looked at, and says when to come back": [
        *[charge(f"a{n}", 1, limits=(PER_SECOND,), credits=4 - n) for n in range(2)],
        charge("b", 9, limits=(PER_SECOND,), answer=Verdict.RATE_LIMITED, wait_ms=500, credits=3),
        wait(499),
        charge("c", 1, limits=(PER_SECOND,), answer=Verdict.RATE_LIMITED, wait_ms=1),
        wait(1),
        charge("d", 1, limits=(PER_SECOND,), credits=2),
        charge("e", 1, limits=(PER_SECOND,), answer=Verdict.RATE_LIMITED, wait_ms=500),
        wait(10_000),
        *[charge(f"f{n}", 1, limits=(PER_SECOND,), credits=1 - n) for n in range(2)],
    ],
    "a window allows no more in any stretch of its length": [
        charge("a", 1, limits=(WINDOW,), credits=4),
        wait(900),
        charge("b", 1, limits=(WINDOW,), credits=3),
        charge("c", 1, limits=(WINDOW,), answer=Verdict.RATE_LIMITED, wait_ms=100),
        wait(100),
        charge("d", 1, limits=(WINDOW,), credits=2),
        charge("e", 1, limits=(WINDOW,), answer=Verdict.RATE_LIMITED, wait_ms=900),
    ],
    "a refusal takes from no limit": [
        charge("a", 6, limits=(PER_SECOND,), answer=Verdict.OUT_OF_CREDITS),
        charge("b", 0, limits=(PER_SECOND,)),
        charge("c", 1, limits=(PER_SECOND, WINDOW), credits=4),
        charge("d", 1, limits=(PER_SECOND, WINDOW), credits=3),
        charge("e", 1, limits=(WINDOW, PER_SECOND), answer=Verdict.RATE_LIMITED, wait_ms=1000),
        wait(500),
        charge("f", 1, limits=(PER_SECOND,), credits=2),
    ],
    "a retry takes from no limit": [
        charge("a", 1, limits=(PER_SECOND,), credits=4),
        charge("a", 1, limits=(PER_SECOND,), credits=4, repeated=True),
        charge("b", 1, limits=(PER_SECOND,), credits=3),
        charge("c", 1, limits=(PER_SECOND,), answer=Verdict.RATE_LIMITED),
    ],
    "a limit by key counts for the key, whoever the user is": [
        charge("a", 1, limits=(BY_KEY,), limit_key="one", credits=4),
        charge("b", 1, limits=(BY_KEY,), limit_key="one", answer=Verdict.RATE_LIMITED),
        charge("c", 1, limits=(BY_KEY,), limit_key="two {odd}\0", credits=3),
        charge("d", 1, limits=(BY_KEY,), credits=2),
    ],
}
