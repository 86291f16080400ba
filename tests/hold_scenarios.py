"""What the ledger must answer about holds, for the memory adapter and for Redis alike.

As in `steps.py`, the user starts with five credits, and names stand for transaction ids.
"""

from dataclasses import dataclass, field

from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError, InvalidArgumentError, TransactionConflictError
from faregate.domain.hold import OPEN_HOLDS_MAX, TTL_MS_MAX, TTL_MS_MIN
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CREDITS_MAX
from steps import HOUR_MS, TEN, Step, add, adjust, charge, refund, wait

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStep(Step):
    """One operation on a hold and what must come of it."""

    ttl_ms: int = MINUTE_MS
    keeps: bool = False
    overdraft_max: int = 0
    open_max: int = OPEN_HOLDS_MAX
    #: What the answer must say beside verdict and balance.
    tells: dict[str, object] = field(default_factory=dict)
    #: What must lie in the user's open holds after the step.
    held: int | None = None


def hold(name: str, estimate: int = 1, **rest: object) -> HoldStep:
    return HoldStep(do="hold", name=name, amount=estimate, **rest)  # type: ignore[arg-type]


def settle(name: str, actual: int, **rest: object) -> HoldStep:
    return HoldStep(do="settle", name=name, amount=actual, **rest)  # type: ignore[arg-type]


def cancel(name: str, **rest: object) -> HoldStep:
    return HoldStep(do="settle", name=name, amount=None, **rest)  # type: ignore[arg-type]


def extend(name: str, ttl_ms: int = MINUTE_MS, **rest: object) -> HoldStep:
    return HoldStep(do="extend", name=name, ttl_ms=ttl_ms, **rest)  # type: ignore[arg-type]


def void_hold(name: str, **rest: object) -> HoldStep:
    return HoldStep(do="void_hold", name=name, amount=1, deadline_in_ms=-1, **rest)  # type: ignore[arg-type]


def expire_due(count: int | None = None) -> HoldStep:
    return HoldStep(do="expire_due", name="", amount=count)


EXPIRED = Verdict.HOLD_EXPIRED

HOLD_SCENARIOS: dict[str, list[Step]] = {
    "a hold takes its estimate at once, and its settlement gives back the rest": [
        hold("a", 4, credits=1, held=4),
        settle("a", 3, credits=2, held=0, tells={"refunded": 1, "charged": 0}),
        hold("b", 2, credits=0, held=2),
        settle("b", 2, credits=0, held=0, tells={"refunded": 0, "charged": 0}),
        hold("c", 1, answer=Verdict.OUT_OF_CREDITS, credits=0),
    ],
    "a settlement beyond the estimate takes what is lacking": [
        hold("a", 2, credits=3),
        settle("a", 4, credits=1, held=0, tells={"refunded": 0, "charged": 2, "shortfall": 0}),
    ],
    "what is not there is a shortfall": [
        hold("a", 3, credits=2),
        settle("a", 9, credits=0, tells={"charged": 2, "shortfall": 4}),
        settle("a", 9, credits=0, repeated=True, tells={"charged": 2, "shortfall": 4}),
    ],
    "an overdraft takes a settlement below zero, and not a hold": [
        hold("a", 5, credits=0),
        settle("a", 9, overdraft_max=3, credits=-3, tells={"charged": 3, "shortfall": 1}),
        hold("b", 1, answer=Verdict.OUT_OF_CREDITS, credits=-3),
        adjust("less", -7, negative_allowed=True, credits=-10),
        add("more", 5, credits=-5),
    ],
    "a balance below the overdraft is left as it is": [
        hold("a", 5, credits=0),
        adjust("less", -7, negative_allowed=True, credits=-7),
        settle("a", 6, overdraft_max=3, credits=-7, tells={"charged": 0, "shortfall": 1}),
    ],
    "a hold ends once": [
        hold("a", 4, credits=1),
        settle("a", 3, credits=2),
        settle("a", 3, credits=2, repeated=True, tells={"refunded": 1}),
        settle("a", 2, answer=TransactionConflictError),
        cancel("a", answer=TransactionConflictError),
        hold("b", 2, credits=0),
        cancel("b", credits=2, held=0, tells={"refunded": 2, "state": "cancelled"}),
        cancel("b", credits=2, repeated=True, tells={"refunded": 2}),
        settle("b", 0, answer=TransactionConflictError),
        extend("b", answer=Verdict.HOLD_CLOSED),
    ],
    "a retry of a hold is answered as before, whatever has become of it": [
        hold("a", 3, credits=2, held=3),
        hold("a", 3, credits=2, held=3, repeated=True),
        hold("a", 2, answer=TransactionConflictError),
        settle("a", 1, credits=4),
        hold("a", 3, credits=2, held=0, repeated=True),
        hold("b", 1, credits=3),
        cancel("b", credits=4),
        hold("b", 1, answer=Verdict.VOIDED, credits=4),
    ],
    "the id of a charge is not the id of a hold": [
        charge("a", 2, credits=3),
        hold("a", 2, answer=TransactionConflictError),
        settle("a", 2, answer=Verdict.UNKNOWN_HOLD, credits=3),
        cancel("nothing", answer=Verdict.UNKNOWN_HOLD, credits=3),
        extend("nothing", answer=Verdict.UNKNOWN_HOLD, credits=3),
    ],
    "a hold that nobody ends goes back when its time is over": [
        hold("a", 4, ttl_ms=MINUTE_MS, credits=1),
        wait(MINUTE_MS - 1),
        expire_due(0),
        wait(1),
        expire_due(1),
        expire_due(0),
        charge("b", 5, credits=0),
        settle("a", 3, answer=EXPIRED, credits=0, tells={"refunded": 4, "state": "expired"}),
    ],
    "a hold that is kept at its expiry has cost its estimate": [
        hold("a", 4, keeps=True, credits=1, held=4),
        wait(MINUTE_MS),
        expire_due(1),
        settle("a", 3, answer=EXPIRED, credits=1, held=0, tells={"refunded": 0}),
        refund("r", of="a", amount=1, credits=2),
        refund("s", of="a", amount=4, answer=Verdict.REFUND_EXCEEDED, credits=2),
    ],
    "what comes too late ends the hold by its expiry, and says so": [
        hold("a", 2, credits=3),
        hold("b", 2, credits=1),
        hold("c", 1, keeps=True, credits=0, held=5),
        wait(MINUTE_MS),
        settle("a", 1, answer=EXPIRED, credits=2, held=3, tells={"refunded": 2}),
        extend("b", answer=EXPIRED, credits=4, held=1, tells={"refunded": 2}),
        cancel("c", answer=EXPIRED, credits=4, held=0, tells={"refunded": 0}),
        settle("a", 1, answer=EXPIRED, credits=4, tells={"refunded": 2}),
        expire_due(0),
    ],
    "a hold can be extended, for a day in all": [
        hold("a", 2, ttl_ms=MINUTE_MS, credits=3),
        wait(MINUTE_MS - 1),
        extend("a", HOUR_MS, credits=3, held=2),
        wait(HOUR_MS - 1),
        extend("a", TTL_MS_MAX, answer=InvalidArgumentError),
        expire_due(0),
        extend("a", TTL_MS_MIN, held=2),
        wait(TTL_MS_MIN),
        expire_due(1),
    ],
    "lifetimes have bounds": [
        hold("a", 1, ttl_ms=TTL_MS_MIN - 1, answer=InvalidArgumentError),
        hold("b", 1, ttl_ms=TTL_MS_MAX + 1, answer=InvalidArgumentError),
        hold("c", 1, ttl_ms=TTL_MS_MAX, credits=4),
        extend("c", 0, answer=InvalidArgumentError),
        hold("d", -1, answer=AmountError),
        settle("c", -1, answer=AmountError),
    ],
    "a user has only so many holds": [
        hold("a", 1, open_max=2, credits=4),
        hold("b", 1, open_max=2, credits=3),
        hold("c", 9, open_max=2, answer=Verdict.TOO_MANY_HOLDS, credits=3),
        cancel("a", credits=4),
        hold("d", 1, open_max=2, credits=3, held=2),
    ],
    "who lacks only what is held is told so": [
        hold("a", 4, credits=1),
        charge("b", 2, answer=Verdict.CREDITS_HELD, credits=1),
        charge("c", 5, answer=Verdict.CREDITS_HELD, credits=1),
        charge("d", 6, answer=Verdict.OUT_OF_CREDITS, credits=1),
        hold("e", 5, answer=Verdict.CREDITS_HELD, credits=1),
        settle("a", 4, credits=1),
        charge("f", 2, answer=Verdict.OUT_OF_CREDITS, credits=1),
    ],
    "a void ends a hold, and the id is spent": [
        hold("a", 3, credits=2),
        void_hold("a", answer=VoidOutcome.REFUNDED, held=0),
        void_hold("a", answer=VoidOutcome.REFUNDED),
        charge("b", 5, credits=0),
        hold("a", 3, answer=Verdict.VOIDED, credits=0),
        settle("a", 3, answer=TransactionConflictError),
        void_hold("c", answer=VoidOutcome.REFUSED),
        hold("c", 1, answer=Verdict.VOIDED, credits=0),
    ],
    "a void gives back what was kept at the expiry": [
        hold("a", 3, ttl_ms=TTL_MS_MIN, keeps=True, credits=2),
        hold("other", 1, credits=1, held=4),
        wait(TTL_MS_MIN),
        expire_due(1),
        void_hold("a", answer=VoidOutcome.REFUNDED, held=1),
        cancel("other", credits=5, held=0),
        charge("b", 5, credits=0),
    ],
    "a void spares what an earlier call was answered": [
        hold("a", 3, credits=2),
        wait(2_000),
        void_hold("a", answer=VoidOutcome.KEPT, held=3),
        hold("a", 3, credits=2, held=3, repeated=True),
        settle("a", 1, credits=4),
        void_hold("a", answer=VoidOutcome.KEPT),
        charge("b", 1, credits=3),
        void_hold("b", answer=VoidOutcome.KEPT),
        refund("r", of="b", credits=4),
    ],
    "a void spares what has been settled: somebody was told of it": [
        hold("a", 2, credits=3),
        settle("a", 4, credits=1, tells={"charged": 2}),
        void_hold("a", answer=VoidOutcome.KEPT),
        settle("a", 4, credits=1, repeated=True),
        hold("b", 1, credits=0),
        settle("b", 0, credits=1),
        void_hold("b", answer=VoidOutcome.KEPT),
    ],
    "a first attempt that its retry has overtaken takes nothing": [
        hold("a", 3, credits=2),
        hold("a", 3, fresh=True, credits=2, held=3, repeated=True),
        hold("a", 2, fresh=True, answer=TransactionConflictError),
        cancel("a", credits=5),
        hold("a", 3, fresh=True, answer=Verdict.VOIDED, credits=5),
        charge("b", 2, credits=3),
        hold("b", 2, fresh=True, answer=TransactionConflictError),
    ],
    "nothing is voided before the deadline of the hold": [
        HoldStep(do="void_hold", name="a", amount=1, answer=VoidOutcome.TOO_EARLY),
        hold("a", 2, credits=3),
    ],
    "what is refunded by hand stands, and no more goes back than was taken": [
        hold("a", 4, credits=1),
        refund("r", of="a", amount=3, credits=4),
        settle("a", 2, credits=5, held=0, tells={"refunded": 1}),
        refund("s", of="a", answer=Verdict.REFUND_EXCEEDED, credits=5),
        hold("b", 4, credits=1),
        refund("t", of="b", credits=5),
        settle("b", 9, credits=5, held=0, tells={"charged": 0, "shortfall": 0}),
        hold("c", 2, credits=3),
        refund("u", of="c", credits=5),
        wait(MINUTE_MS),
        expire_due(1),
        settle("c", 0, answer=EXPIRED, credits=5, held=0, tells={"refunded": 0}),
    ],
    "a settled hold is refunded by hand as far as it has cost": [
        hold("a", 4, credits=1),
        settle("a", 3, credits=2),
        refund("r", of="a", amount=4, answer=Verdict.REFUND_EXCEEDED, credits=2),
        refund("r", of="a", credits=5),
    ],
    "a hold begins a period, spends the allowance first, and gives it back last": [
        hold("a", 13, allowance=TEN, credits=2, left=0),
        settle("a", 9, allowance=TEN, credits=6, left=1),
        hold("b", 1, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        hold("c", 1, allowance=TEN, credits=14, left=9),
        settle("b", 0, answer=EXPIRED, credits=15, left=9),
    ],
    "what a settlement lacks is taken from a new period": [
        hold("a", 15, ttl_ms=TTL_MS_MAX, allowance=TEN, credits=0, left=0),
        wait(HOUR_MS),
        settle("a", 18, allowance=TEN, credits=7, left=7, tells={"charged": 3}),
    ],
    "a settlement in a new period gives back what is the user's to keep": [
        hold("a", 10, ttl_ms=TTL_MS_MAX, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        settle("a", 4, allowance=TEN, credits=20, left=9),
    ],
    "a user who is never refused has holds of nothing": [
        hold("a", 0, credits=5, held=0),
        settle("a", 8, credits=5, tells={"charged": 0, "shortfall": 0, "state": "settled"}),
        settle("a", 8, credits=5, repeated=True),
        hold("b", 0, credits=5),
        cancel("b", credits=5),
        hold("c", 0, credits=5),
        wait(MINUTE_MS),
        expire_due(1),
    ],
    "the end of a hold writes one record, even where there was no room for all of it": [
        hold("a", 3, credits=2),
        add("more", CREDITS_MAX - 3, credits=CREDITS_MAX - 1),
        wait(MINUTE_MS),
        expire_due(1),
        charge("b", 2, credits=CREDITS_MAX - 2),
        settle("a", 1, answer=EXPIRED, credits=CREDITS_MAX - 2, tells={"refunded": 1}),
        void_hold("a", asked_in_ms=-MINUTE_MS, answer=VoidOutcome.REFUNDED),
        charge("c", 1, credits=CREDITS_MAX - 3),
    ],
    "no end of a hold takes a balance out of its range": [
        hold("a", 3, credits=2),
        add("more", CREDITS_MAX - 2, credits=CREDITS_MAX),
        settle("a", 1, answer=AmountError),
        cancel("a", answer=AmountError),
        wait(MINUTE_MS),
        expire_due(1),
        settle("a", 1, answer=EXPIRED, credits=CREDITS_MAX, tells={"refunded": 0}),
    ],
}
