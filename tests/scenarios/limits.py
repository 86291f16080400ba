"""Rate limits: checked with the credits, and taken from by what is allowed alone."""

from dataclasses import replace

from faregate.domain.decision import Verdict
from faregate.domain.limit import LimitKind, RateLimit
from spec.steps import (
    BY_KEY,
    DAY_MS,
    MINUTE_MS,
    PER_SECOND,
    WINDOW,
    Step,
    add,
    cancel,
    charge,
    hold,
    refund,
    wait,
)

RATE_LIMITED = Verdict.RATE_LIMITED
#: Of two policies: the same by name, and not by their numbers.
SLOW = RateLimit(name="steady", count=10, period_ms=DAY_MS)
FAST = RateLimit(name="steady", count=1_000, period_ms=MINUTE_MS)
OF_FREE = RateLimit(name="free", count=1, period_ms=1_000)
OF_PAID = RateLimit(name="paid", count=2, period_ms=1_000)
FASTER_BY_KEY = replace(BY_KEY, count=9)
SMALL_WINDOW = RateLimit(name="window", count=1, period_ms=1_000, kind=LimitKind.WINDOW)

LIMITS: dict[str, list[Step]] = {
    "a rate limit refuses before credits are looked at, and says when to come back": [
        *[charge(f"a{n}", 1, limits=(PER_SECOND,), credits=4 - n) for n in range(2)],
        charge("b", 9, limits=(PER_SECOND,), answer=RATE_LIMITED, retry_after_ms=500, credits=3),
        wait(499),
        charge("c", 1, limits=(PER_SECOND,), answer=RATE_LIMITED, retry_after_ms=1),
        wait(1),
        charge("d", 1, limits=(PER_SECOND,), credits=2),
        charge("e", 1, limits=(PER_SECOND,), answer=RATE_LIMITED, retry_after_ms=500),
        wait(10_000),
        *[charge(f"f{n}", 1, limits=(PER_SECOND,), credits=1 - n) for n in range(2)],
    ],
    "a window allows no more in any stretch of its length": [
        charge("a", 1, limits=(WINDOW,), credits=4),
        wait(900),
        charge("b", 1, limits=(WINDOW,), credits=3),
        charge("c", 1, limits=(WINDOW,), answer=RATE_LIMITED, retry_after_ms=100),
        wait(100),
        charge("d", 1, limits=(WINDOW,), credits=2),
        charge("e", 1, limits=(WINDOW,), answer=RATE_LIMITED, retry_after_ms=900),
    ],
    "a refusal takes from no limit": [
        charge("a", 6, limits=(PER_SECOND,), answer=Verdict.OUT_OF_CREDITS),
        charge("b", 0, limits=(PER_SECOND,)),
        charge("c", 1, limits=(PER_SECOND, WINDOW), credits=4),
        charge("d", 1, limits=(PER_SECOND, WINDOW), credits=3),
        charge("e", 1, limits=(WINDOW, PER_SECOND), answer=RATE_LIMITED, retry_after_ms=1000),
        wait(500),
        charge("f", 1, limits=(PER_SECOND,), credits=2),
    ],
    "a retry takes from no limit": [
        charge("a", 1, limits=(PER_SECOND,), credits=4),
        charge("a", 1, limits=(PER_SECOND,), credits=4, repeated=True),
        charge("b", 1, limits=(PER_SECOND,), credits=3),
        charge("c", 1, limits=(PER_SECOND,), answer=RATE_LIMITED),
    ],
    "a limit by key counts for each key of a user": [
        charge("a", 1, limits=(BY_KEY,), limit_key="one", credits=4),
        charge("b", 1, limits=(BY_KEY,), limit_key="one", answer=RATE_LIMITED),
        charge("c", 1, limits=(BY_KEY,), limit_key="two {odd}\0", credits=3),
        charge("d", 1, limits=(BY_KEY,), limit_key="one", user="bob", credits=4),
    ],
    "a limit by key counts for each user where there is no key": [
        charge("a", 1, limits=(BY_KEY,), credits=4),
        charge("b", 1, limits=(BY_KEY,), answer=RATE_LIMITED),
        charge("c", 1, limits=(BY_KEY,), user="bob", credits=4),
    ],
    "a hold takes from limits as a charge does, and what refuses takes from none": [
        hold("a", 1, limits=(PER_SECOND, WINDOW), credits=4),
        hold("b", 9, limits=(PER_SECOND, WINDOW), answer=Verdict.OUT_OF_CREDITS),
        hold("c", 1, limits=(PER_SECOND, WINDOW), open_max=1, answer=Verdict.TOO_MANY_HOLDS),
        charge("d", 1, limits=(PER_SECOND, WINDOW), credits=3),
        hold("e", 9, limits=(WINDOW, PER_SECOND), answer=RATE_LIMITED, limited_by="window"),
        charge("f", 1, limits=(PER_SECOND,), answer=RATE_LIMITED, retry_after_ms=500),
        hold("a", 1, limits=(PER_SECOND, WINDOW), credits=4, repeated=True),
        wait(500),
        hold("g", 1, limits=(PER_SECOND,), credits=2, limited_by=""),
        hold("h", 1, limits=(PER_SECOND,), answer=RATE_LIMITED, retry_after_ms=500),
        hold("i", 1, limits=(BY_KEY,), limit_key="one", credits=1),
        hold("j", 1, limits=(BY_KEY,), limit_key="one", answer=RATE_LIMITED),
        hold("k", 1, limits=(BY_KEY,), limit_key="two", credits=0),
    ],
    "limits of one name and other numbers count apart": [
        add("more", 10, credits=15),
        *[charge(f"a{n}", 1, limits=(SLOW,), credits=14 - n) for n in range(10)],
        charge("b", 1, limits=(FAST,), credits=4),
        charge("c", 1, limits=(SLOW,), answer=RATE_LIMITED, retry_after_ms=8_640_000),
        charge("d", 1, limits=(FAST,), credits=3),
        charge("e", 1, limits=(SLOW,), answer=RATE_LIMITED, retry_after_ms=8_640_000),
    ],
    "windows of one name and other numbers count apart": [
        charge("a", 1, limits=(WINDOW,), credits=4),
        charge("b", 1, limits=(SMALL_WINDOW,), credits=3),
        charge("c", 1, limits=(SMALL_WINDOW,), answer=RATE_LIMITED, retry_after_ms=1_000),
        charge("d", 1, limits=(WINDOW,), credits=2),
        charge("e", 1, limits=(WINDOW,), answer=RATE_LIMITED, retry_after_ms=1_000),
    ],
    "limits by key of one name and other numbers count apart": [
        charge("a", 1, limits=(BY_KEY,), limit_key="one", credits=4),
        charge("b", 1, limits=(FASTER_BY_KEY,), limit_key="one", credits=3),
        charge("c", 1, limits=(BY_KEY,), limit_key="one", answer=RATE_LIMITED),
    ],
    "limits of one name and the same numbers are one": [
        charge("a", 1, limits=(OF_FREE,), credits=4),
        charge("b", 1, limits=(replace(OF_FREE), OF_PAID), answer=RATE_LIMITED, limited_by="free"),
    ],
    "a user who changes between tiers is counted in each": [
        charge("a", 1, limits=(OF_FREE,), credits=4),
        charge("b", 1, limits=(OF_PAID,), credits=3),
        charge("c", 1, limits=(OF_FREE,), answer=RATE_LIMITED, retry_after_ms=1_000),
        charge("d", 1, limits=(OF_PAID,), credits=2),
        charge("e", 1, limits=(OF_PAID,), answer=RATE_LIMITED, retry_after_ms=500),
        wait(500),
        charge("f", 1, limits=(OF_PAID,), credits=1),
        charge("g", 1, limits=(OF_FREE,), answer=RATE_LIMITED, retry_after_ms=500),
        charge("h", 1, limits=(OF_FREE, OF_PAID), answer=RATE_LIMITED, limited_by="free"),
    ],
    "what is given back does not come back to a limit": [
        hold("a", 1, limits=(PER_SECOND,), credits=4),
        cancel("a", credits=5),
        charge("b", 1, limits=(PER_SECOND,), credits=4),
        refund("r", of="b", credits=5),
        charge("c", 1, limits=(PER_SECOND,), answer=RATE_LIMITED),
    ],
}
