"""Plays the steps of scenarios on a ledger."""

from dataclasses import dataclass, field
from uuid import UUID

from clocks import Clock
from faregate.domain.decision import Verdict
from faregate.domain.errors import (
    InvalidArgumentError,
    TransactionConflictError,
)
from faregate.domain.request import (
    Charge,
    Credit,
    Refund,
    VoidOutcome,
)
from faregate.domain.transaction import CreditTransactionId, TransactionType
from faregate.domain.user import User
from faregate.ports import Ledger
from steps import IDENTITY, STARTING_CREDITS, Answer, Step


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a step."""

    answer: Answer
    credits: int | None = None
    left: int | None = None
    resets_at_ms: int | None = None
    limited_by: str = ""
    wait_ms: int = 0
    repeated: bool = False


@dataclass(slots=True)
class Player:
    """Plays steps on a ledger for one user."""

    ledger: Ledger
    user_id: UUID
    clock: Clock
    ids: dict[str, CreditTransactionId] = field(default_factory=dict)

    async def start(self) -> None:
        """Attach the ledger and install the user."""
        await self.ledger.attach(IDENTITY)
        user = User(id=self.user_id, credits=STARTING_CREDITS, sequence=1, epoch=IDENTITY.epoch)
        assert await self.ledger.install(user)

    def identify(self, name: str, age_ms: int = 0) -> CreditTransactionId:
        """Return the id that `name` stands for, making it at first use."""
        if name not in self.ids:
            self.ids[name] = CreditTransactionId.mint(self.clock() - age_ms)
        return self.ids[name]

    async def play(self, step: Step) -> Played:
        """Do one step; return what came of it."""
        if step.do == "wait":
            self.clock.advance(step.amount or 0)
            return Played(Verdict.ALLOWED)
        try:
            outcome = await self._do(step)
        except (InvalidArgumentError, TransactionConflictError) as error:
            return Played(type(error))
        if isinstance(outcome, VoidOutcome):
            return Played(outcome)
        return Played(
            outcome.verdict,
            outcome.credits,
            outcome.allowance_left,
            outcome.resets_at_ms,
            outcome.limited_by,
            outcome.retry_after_ms,
            repeated=outcome.repeated,
        )

    async def _do(self, step: Step):  # type: ignore[no-untyped-def]
        identity = self.identify(step.name, step.age_ms)
        if step.do in {"charge", "void"}:
            attempt = Charge(
                user_id=self.user_id,
                transaction_id=identity,
                cost=step.amount or 0,
                asked_at_ms=self.clock() + step.asked_in_ms,
                deadline_ms=self.clock() + step.deadline_in_ms,
                description=f"{step.do} {step.name}",
                metadata={"name": step.name},
                fresh=step.fresh,
                allowance=step.allowance,
                limits=step.limits,
                limit_key=step.limit_key,
                records_zero=step.records_zero,
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
