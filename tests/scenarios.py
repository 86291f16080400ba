"""What the ledger must answer, as tables that run on the memory adapter and on Redis alike.

A scenario is a list of steps for one user who starts with five credits, of sequence 1. A step is an
operation, its arguments, and the verdict (or error) and balance that must come back. Names stand
for transaction ids: the same name is the same id.
"""

from dataclasses import dataclass, field
from uuid import UUID

from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    AmountError,
    FaregateError,
    InvalidArgumentError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.identity import LedgerIdentity
from faregate.domain.request import Charge, Credit, DurableDeduct, Refund, VoidOutcome
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ports import Ledger

ALLOWED = Verdict.ALLOWED
IDENTITY = LedgerIdentity(
    ledger_id=UUID(int=1), shard_count=1, starting_credits=5, epoch=7, installed=False
)
STARTING_CREDITS = 5

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
    "a charge of nothing is recorded and always allowed": [
        charge("a", 5, credits=0),
        charge("b", 0, credits=0),
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
        charge("d", 0, answer=Verdict.OUT_OF_CREDITS, credits=-1),
        adjust("e", 3, credits=2),
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
        charge("a", 0, credits=5),
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
}


@dataclass(slots=True)
class Player:
    """Plays steps on a ledger for one user."""

    ledger: Ledger
    user_id: UUID
    ids: dict[str, CreditTransactionId] = field(default_factory=dict)

    async def start(self) -> None:
        """Attach the ledger and install the user."""
        await self.ledger.attach(IDENTITY)
        user = User(id=self.user_id, credits=STARTING_CREDITS, sequence=1, epoch=IDENTITY.epoch)
        assert await self.ledger.install(user)

    def identify(self, name: str, age_ms: int = 0) -> CreditTransactionId:
        """Return the id that `name` stands for, making it at first use."""
        if name not in self.ids:
            self.ids[name] = CreditTransactionId.mint(self.ledger.now_ms() - age_ms)
        return self.ids[name]

    async def play(self, step: Step) -> tuple[Answer, int | None, bool]:
        """Do one step; return the verdict or the error's class, the balance, and `repeated`."""
        try:
            outcome = await self._do(step)
        except InvalidArgumentError as error:
            return type(error), None, False
        except TransactionConflictError as error:
            return type(error), None, False
        if isinstance(outcome, VoidOutcome):
            return outcome, None, False
        return outcome.verdict, outcome.credits, outcome.repeated

    async def _do(self, step: Step):  # type: ignore[no-untyped-def]
        identity = self.identify(step.name, step.age_ms)
        if step.do in {"charge", "void"}:
            attempt = Charge(
                user_id=self.user_id,
                transaction_id=identity,
                cost=step.amount or 0,
                asked_at_ms=self.ledger.now_ms() + step.asked_in_ms,
                deadline_ms=self.ledger.now_ms() + step.deadline_in_ms,
                description=f"{step.do} {step.name}",
                metadata={"name": step.name},
                fresh=step.fresh,
            )
            act = self.ledger.charge if step.do == "charge" else self.ledger.void
            return await act(attempt)
        if step.do == "refund":
            return await self.ledger.refund(
                Refund(
                    user_id=self.user_id,
                    deduct_id=self.identify(step.of),
                    transaction_id=identity,
                    amount=step.amount,
                    description=f"refund {step.name}",
                    durable=step.durable,
                )
            )
        kind = TransactionType.ADD if step.do == "add" else TransactionType.ADMIN_ADJUSTMENT
        return await self.ledger.credit(
            Credit(
                user_id=self.user_id,
                transaction_id=identity,
                type=kind,
                amount=step.amount or 0,
                description=f"{step.do} {step.name}",
                negative_allowed=step.negative_allowed,
            )
        )
