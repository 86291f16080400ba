"""Shadows: what a policy that is only observed would have said, on a balance of its own."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError
from faregate.domain.transaction import CREDITS_MAX
from spec.steps import (
    BY_KEY,
    CARRYING,
    DAY_MS,
    HOUR_MS,
    PER_SECOND,
    TEN,
    WINDOW,
    Step,
    charge,
    correct,
    counts,
    observe,
    wait,
)

OUT = Verdict.OUT_OF_CREDITS
LIMITED = Verdict.RATE_LIMITED

SHADOWS: dict[str, list[Step]] = {
    "a shadow is charged as a balance would be, and the real one is not": [
        observe("a", 2, credits=3),
        observe("b", 4, answer=OUT, credits=3),
        observe("c", 3, credits=0),
        observe("d", 1, answer=OUT, credits=0),
        counts(allowed=2, out_of_credits=2, rate_limited=0),
        charge("e", 5, credits=0),
        observe("f", 1, answer=OUT, credits=0),
    ],
    "each policy has shadows and counts of its own, and each user": [
        observe("a", 5, credits=0),
        observe("b", 5, policy="other", credits=0),
        observe("c", 5, user="bob", credits=0),
        observe("d", 1, answer=OUT),
        counts(allowed=2, out_of_credits=1),
        counts(policy="other", allowed=1, out_of_credits=0),
        counts(policy="nobody's", allowed=0, out_of_credits=0),
    ],
    "a peek is not counted": [
        observe("a", 5, limits=(PER_SECOND,), credits=0),
        observe("b", 0, limits=(PER_SECOND,), credits=0),
        observe("c", 0, limits=(PER_SECOND,), credits=0),
        counts(allowed=1, rate_limited=0),
    ],
    "a shadow has an allowance": [
        observe("a", 12, allowance=TEN, credits=3, left=0),
        observe("b", 4, allowance=TEN, answer=OUT, credits=3, left=0),
        wait(HOUR_MS),
        observe("c", 4, allowance=TEN, credits=9, left=6),
        wait(HOUR_MS),
        observe("d", 1, allowance=CARRYING, credits=14, left=11),
    ],
    "a shadow has rate limits that are not the real ones": [
        *[observe(f"a{n}", 1, limits=(PER_SECOND,), credits=4 - n) for n in range(2)],
        observe("b", 9, limits=(PER_SECOND,), answer=LIMITED, retry_after_ms=500),
        observe("c", 1, policy="other", limits=(PER_SECOND,), credits=4),
        charge("d", 1, limits=(PER_SECOND,), credits=4),
        observe("e", 1, limits=(WINDOW, BY_KEY), credits=2),
        observe("f", 1, limits=(WINDOW, BY_KEY), answer=LIMITED, limited_by="by key"),
        observe("g", 9, limits=(WINDOW,), answer=OUT),
        observe("h", 1, limits=(WINDOW,), credits=1),
        observe("i", 1, limits=(WINDOW,), answer=LIMITED, limited_by="window"),
        counts(allowed=4, rate_limited=3, out_of_credits=1),
    ],
    "what was observed and not needed is put right": [
        observe("a", 5, credits=0),
        correct(3),
        observe("b", 4, answer=OUT, credits=3),
        correct(-2),
        observe("c", 1, credits=0),
        correct(0),
        correct(-2),
        observe("d", 0, credits=-2),
        counts(allowed=2, out_of_credits=1),
    ],
    "what is put right too low comes off the allowance, and what goes back does not add to it": [
        observe("a", 4, allowance=TEN, credits=11, left=6),
        correct(3, allowance=TEN),
        observe("b", 0, allowance=TEN, credits=14, left=6),
        correct(-8, allowance=TEN),
        observe("c", 0, allowance=TEN, credits=6, left=0),
        wait(HOUR_MS),
        correct(-1, allowance=TEN),
        observe("d", 0, allowance=TEN, credits=15, left=10),
    ],
    "a shadow begins anew when nobody has asked for it in 35 days": [
        observe("a", 5, credits=0),
        wait(35 * DAY_MS),
        observe("b", 1, answer=OUT, credits=0),
        wait(1),
        observe("c", 1, credits=4),
        counts(allowed=2, out_of_credits=1),
    ],
    "no shadow leaves the range": [
        correct(CREDITS_MAX),
        observe("a", 0, credits=CREDITS_MAX),
        observe("b", 0, allowance=TEN, credits=CREDITS_MAX),
        observe("c", -1, answer=AmountError),
    ],
}
