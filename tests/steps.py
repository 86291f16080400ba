"""The steps of scenarios: an operation, its arguments, and what must come back."""

from dataclasses import dataclass
from uuid import UUID

from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    FaregateError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.request import DurableDeduct, VoidOutcome

ALLOWED = Verdict.ALLOWED
IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=5, epoch=7, installed=False
)
STARTING_CREDITS = 5

HOUR_MS = 3_600_000
HOUR = Period(kind=PeriodKind.ROLLING, length_ms=HOUR_MS)
TEN = Allowance(amount=10, period=HOUR)
TWO = Allowance(amount=2, period=HOUR)
CARRYING = Allowance(amount=10, period=HOUR, rollover_max=2)
PER_SECOND = RateLimit(name="steady", count=2, period_ms=1_000)
WINDOW = RateLimit(name="window", count=2, period_ms=1_000, kind=LimitKind.WINDOW)
BY_KEY = RateLimit(name="by key", count=1, period_ms=1_000, is_by_key=True)

Answer = Verdict | VoidOutcome | type[FaregateError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation and what must come of it."""

    do: str
    name: str
    amount: int | None = None
    #: The age of the id when it is first used, in milliseconds.
    age_ms: int = 0
    #: How long before now (negative) or after now the deadline is, in milliseconds.
    deadline_in_ms: int = 60_000
    #: When it was asked for, likewise.
    asked_in_ms: int = -1_000
    of: str = ""
    fresh: bool = False
    negative_allowed: bool = False
    durable: DurableDeduct | None = None
    answer: Answer = ALLOWED
    credits: int | None = None
    repeated: bool = False
    #: What the user gets anew in each period.
    allowance: Allowance | None = None
    limits: tuple[RateLimit, ...] = ()
    limit_key: str = ""
    #: For how long the limit must refuse, where that is said.
    wait_ms: int | None = None
    #: What must be left of it.
    left: int | None = None
    records_zero: bool = False


def wait(ms: int) -> Step:
    return Step(do="wait", name="", amount=ms)


def charge(name: str, cost: int = 1, **rest: object) -> Step:
    return Step(do="charge", name=name, amount=cost, **rest)  # type: ignore[arg-type]


def add(name: str, amount: int, **rest: object) -> Step:
    return Step(do="add", name=name, amount=amount, **rest)  # type: ignore[arg-type]


def adjust(name: str, amount: int, **rest: object) -> Step:
    return Step(do="adjust", name=name, amount=amount, **rest)  # type: ignore[arg-type]


def refund(name: str, of: str, amount: int | None = None, **rest: object) -> Step:
    return Step(do="refund", name=name, of=of, amount=amount, **rest)  # type: ignore[arg-type]


def void(of: str, **rest: object) -> Step:
    return Step(do="void", name=of, deadline_in_ms=-1, **rest)  # type: ignore[arg-type]
