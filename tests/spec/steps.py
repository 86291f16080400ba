"""The steps of scenarios: an operation, its arguments, and what must come of it.

Names stand for things: the same name of a transaction is the same id, the same name of a user the
same user. What a step says beside its arguments must be told by the answer, by the names that the
answer has for it (`left` is short for `allowance_left`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID, uuid5

from faregate.domain.alignment import AlignmentOutcome
from faregate.domain.attempt import Event
from faregate.domain.decision import Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.idempotency import IdempotencyKey
from faregate.domain.limit import LimitKind, RateLimit
from faregate.domain.period import Period, PeriodKind
from faregate.domain.policy import Allowance
from faregate.domain.request import DurableDeduct, VoidOutcome
from faregate.domain.spend import OPEN_HOLDS_MAX
from faregate.domain.transaction import TransactionType

ALLOWED = Verdict.ALLOWED
#: What every user starts with.
STARTING_CREDITS = 5

#: Two in one shard, and one in another where there are two.
USERS = {
    name: UUID(int=uuid5(UUID(int=7), name).int >> 16 << 16 | number)
    for number, name in ((0, "ann"), (2, "bob"), (1, "cid"))
}

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
HOUR = Period(kind=PeriodKind.ROLLING, length_ms=HOUR_MS)
TEN = Allowance(amount=10, period=HOUR)
TWO = Allowance(amount=2, period=HOUR)
CARRYING = Allowance(amount=10, period=HOUR, rollover_max=2)
PER_SECOND = RateLimit(name="steady", count=2, period_ms=1_000)
WINDOW = RateLimit(name="window", count=2, period_ms=1_000, kind=LimitKind.WINDOW)
BY_KEY = RateLimit(name="by key", count=1, period_ms=1_000, is_by_key=True)


class Done(StrEnum):
    """The answers of operations that decide nothing."""

    DONE = "done"
    #: Of a request that has been served: whether its key is remembered.
    COMPLETED = "completed"
    UNKNOWN = "unknown"
    FOUND = "found"
    #: Of a period: whether it has been begun, or there was nothing to begin.
    RENEWED = "renewed"
    CURRENT = "current"


class Send(StrEnum):
    """How an attempt of a spend reaches the ledger."""

    #: With a minted id: fresh at first use of its name, a retry from then on.
    MINTED = "minted"
    #: With a minted id, for the first time.
    FRESH = "fresh"
    #: With a minted id, after an earlier attempt that may have been lost.
    RETRY = "retry"
    #: With an id that the caller chose.
    GIVEN = "given"


Answer: TypeAlias = Verdict | VoidOutcome | AlignmentOutcome | Done | Event | type[FaregateError]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Step:
    """One operation and what must come of it."""

    do: str
    #: Of the transaction.
    name: str = ""
    user: str = "ann"
    #: In credits.
    amount: int | None = None
    #: How an attempt is sent.
    send: Send = Send.MINTED
    #: The name of the transaction that this one is about.
    of: str = ""
    #: The name of the attempt with an idempotency key that does it; empty for nobody in particular.
    by: str = ""
    #: How much time passes, in milliseconds; negative where the clock is set back.
    for_ms: int = 0
    #: The age of the id when it is first used, in milliseconds.
    age_ms: int = 0
    #: How long before now (negative) or after now the deadline is, in milliseconds.
    deadline_in_ms: int = MINUTE_MS
    #: When it was sent, likewise.
    asked_in_ms: int = -1_000
    #: The deadline with which it was sent first, likewise; None if that is not known.
    first_deadline_in_ms: int | None = None
    negative_allowed: bool = False
    #: Whether a refund says where the record of its deduct lies.
    by_position: bool = False
    #: What Postgres knows; None for what the rows say.
    durable: DurableDeduct | None = None
    #: What the user gets anew in each period.
    allowance: Allowance | None = None
    limits: tuple[RateLimit, ...] = ()
    limit_key: str = ""
    #: Whether the user is never refused, so that a cost of 0 is recorded.
    is_unlimited: bool = False
    key: IdempotencyKey | None = None
    ttl_ms: int = MINUTE_MS
    keeps: bool = False
    overdraft_max: int = 0
    open_max: int = OPEN_HOLDS_MAX
    #: The name of the policy of a shadow.
    policy: str = "tried"
    #: What a retry of a request that has been served is to be told.
    response: bytes = b""
    #: How many records a drain reads at a time.
    batch_size: int = 100
    #: Whether a drain dies after its first batch, before Redis is told.
    dies: bool = False
    #: Of an alignment: the least sequence, the part of the allowance, the type of its record.
    sequence_min: int = 0
    part: int = 0
    record: TransactionType | None = None
    #: Of a batch: the spends that reach the ledger in one call, in this order.
    spends: tuple["Step", ...] = ()

    answer: Answer = ALLOWED
    repeated: bool = False
    #: What else the answer must say.
    tells: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say what the step says, and no more."""
        values = {each.name: getattr(self, each.name) for each in fields(self)[1:]}
        said = [f"{name}={value!r}" for name, value in values.items() if value != _UNSAID[name]]
        return f"{self.do}({', '.join(said)})"


_UNSAID: dict[str, object] = {each.name: each.default for each in fields(Step)} | {"tells": {}}
_ARGUMENTS = {field.name for field in fields(Step)}
_SHORT = {"left": "allowance_left"}


def make(do: str, **rest: object) -> Step:
    """Make a step; what is no argument must be told by the answer."""
    arguments = {name: value for name, value in rest.items() if name in _ARGUMENTS}
    tells = {_SHORT.get(name, name): value for name, value in rest.items() if name not in arguments}
    return Step(do=do, tells=tells, **arguments)  # type: ignore[arg-type]


def wait(ms: int) -> Step:
    return Step(do="wait", for_ms=ms, answer=Done.DONE)


def step_back(ms: int) -> Step:
    """Set the clock back."""
    return Step(do="wait", for_ms=-ms, answer=Done.DONE)


def charge(name: str, cost: int = 1, **rest: object) -> Step:
    return make("charge", name=name, amount=cost, **rest)


def hold(name: str, estimate: int = 1, **rest: object) -> Step:
    return make("hold", name=name, amount=estimate, **rest)


def fresh(step: Step) -> Step:
    """Send a spend for the first time, whatever was sent with its id before."""
    return _sent(step, Send.FRESH)


def retry(step: Step) -> Step:
    """Send a spend again, though its first attempt may not have arrived."""
    return _sent(step, Send.RETRY)


def given(step: Step) -> Step:
    """Send a spend with an id that the caller chose."""
    return _sent(step, Send.GIVEN)


def _sent(step: Step, send: Send) -> Step:
    values = {each.name: getattr(step, each.name) for each in fields(step)}
    return Step(**{**values, "send": send})


def batch(*spends: Step) -> Step:
    """Send spends in one call."""
    return Step(do="batch", spends=spends, answer=Done.DONE)


def add(name: str, amount: int, **rest: object) -> Step:
    return make("add", name=name, amount=amount, **rest)


def adjust(name: str, amount: int, **rest: object) -> Step:
    return make("adjust", name=name, amount=amount, **rest)


def refund(name: str, of: str, amount: int | None = None, **rest: object) -> Step:
    return make("refund", name=name, of=of, amount=amount, **rest)


def void(of: str, **rest: object) -> Step:
    return make("void", name=of, **{"deadline_in_ms": 0, **rest})


def settle(name: str, actual: int, **rest: object) -> Step:
    return make("settle", name=name, amount=actual, **rest)


def cancel(name: str, **rest: object) -> Step:
    return make("cancel", name=name, **rest)


def extend(name: str, ttl_ms: int = MINUTE_MS, **rest: object) -> Step:
    return make("extend", name=name, ttl_ms=ttl_ms, **rest)


def expire_due(ended: int | None = None, **rest: object) -> Step:
    """End the user's expired holds; `ended` says how many that must be."""
    told = {} if ended is None else {"ended": ended}
    return make("expire", answer=Done.DONE, **told, **rest)


def sweep(ended: int | None = None) -> Step:
    """End everybody's expired holds, as the worker does."""
    told = {} if ended is None else {"ended": ended}
    return make("sweep", answer=Done.DONE, **told)


def complete(name: str, answer: Answer = Done.COMPLETED, **rest: object) -> Step:
    return make("complete", name=name, answer=answer, **rest)


def kept(name: str, response: bytes | None, **rest: object) -> Step:
    """Ask for the response that was kept; None if there must be none."""
    answer = Done.UNKNOWN if response is None else Done.FOUND
    return make("kept", name=name, told=response, answer=answer, **rest)


def renew(allowance: Allowance, **rest: object) -> Step:
    return make("renew", allowance=allowance, **rest)


def read(allowance: Allowance | None = None, **rest: object) -> Step:
    return make("read", allowance=allowance, **{"answer": Done.FOUND, **rest})


def observe(name: str, cost: int = 1, **rest: object) -> Step:
    """Spend under a shadow policy; the answer is the verdict that would have been."""
    return make("observe", name=name, amount=cost, **rest)


def correct(amount: int, **rest: object) -> Step:
    return make("correct", amount=amount, **{"answer": Done.DONE, **rest})


def counts(policy: str = "tried", **verdicts: object) -> Step:
    """Ask how often each verdict would have been given under a shadow policy."""
    return make("counts", policy=policy, answer=Done.FOUND, **verdicts)


def drain(**rest: object) -> Step:
    """Make rows of the records, and trim the stream, as workers do."""
    return make("drain", answer=Done.DONE, **rest)


def lose() -> Step:
    """Lose all that is live; a minute later the ledger serves again, from rows."""
    return make("lose", answer=Done.DONE)


def wipe() -> Step:
    """Lose all that is live; nobody has rebuilt it."""
    return make("wipe", answer=Done.DONE)


def spoil(**rest: object) -> Step:
    """Overwrite the account of a user."""
    return make("spoil", answer=Done.DONE, **rest)


def fill() -> Step:
    """Let no more records be pending than there are."""
    return make("fill", answer=Done.DONE)


def key(name: str, **rest: object) -> IdempotencyKey:
    return IdempotencyKey(key=name, **rest)  # type: ignore[arg-type]
