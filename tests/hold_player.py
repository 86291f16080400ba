"""Plays the steps of scenarios about holds on a ledger."""

from dataclasses import dataclass, field
from uuid import UUID

from clocks import Clock
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError, TransactionConflictError
from faregate.domain.hold import Hold, HoldRequest, Settlement
from faregate.domain.policy import OnExpiry
from faregate.domain.request import Charge, VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.ports import HoldLedger
from hold_scenarios import HoldStep
from player import Played, Player
from steps import Answer, Step


@dataclass(frozen=True, slots=True)
class HoldPlayed:
    """What came of a step."""

    answer: Answer
    credits: int | None = None
    left: int | None = None
    repeated: bool = False
    #: Whatever else the answer says.
    tells: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class HoldPlayer:
    """Plays steps on a ledger that knows holds, for one user."""

    ledger: HoldLedger
    user_id: UUID
    clock: Clock
    others: Player = field(init=False)

    def __post_init__(self) -> None:
        self.others = Player(self.ledger, self.user_id, self.clock)

    async def play(self, step: Step) -> Played | HoldPlayed:
        """Do one step; return what came of it."""
        if not isinstance(step, HoldStep):
            return await self.others.play(step)
        try:
            return await self._do(step)
        except (InvalidArgumentError, TransactionConflictError) as error:
            return HoldPlayed(type(error))

    async def _do(self, step: HoldStep) -> HoldPlayed:
        if step.do == "expire_due":
            ended = await self.ledger.expire_due(self.user_id)
            return HoldPlayed(Verdict.ALLOWED, tells={"ended": ended})
        identity = self.others.identify(step.name, step.age_ms)
        if step.do == "hold":
            return _hold_played(await self.ledger.hold(self._request(step, identity)))
        if step.do == "void_hold":
            outcome: VoidOutcome = await self.ledger.void_hold(self._request(step, identity))
            return HoldPlayed(outcome)
        if step.do == "extend":
            answer = await self.ledger.extend(self.user_id, identity, step.ttl_ms)
        else:
            settlement = Settlement(
                user_id=self.user_id,
                hold_id=identity,
                actual=step.amount,
                overdraft_max=step.overdraft_max,
                allowance=step.allowance,
                description=f"end of {step.name}",
                metadata={"name": step.name},
            )
            answer = await self.ledger.settle(settlement)
        tells = {
            "state": str(answer.state),
            "refunded": answer.refunded,
            "charged": answer.charged,
            "shortfall": answer.shortfall,
            "expires": answer.expires_at_ms,
        }
        return HoldPlayed(
            answer.verdict, answer.credits, answer.allowance_left, answer.repeated, tells
        )

    def _request(self, step: HoldStep, identity: CreditTransactionId) -> HoldRequest:
        charge = Charge(
            user_id=self.user_id,
            transaction_id=identity,
            cost=step.amount or 0,
            asked_at_ms=self.clock() + step.asked_in_ms,
            deadline_ms=self.clock() + step.deadline_in_ms,
            description=f"hold {step.name}",
            metadata={"name": step.name},
            fresh=step.fresh,
            allowance=step.allowance,
        )
        return HoldRequest(
            charge=charge,
            ttl_ms=step.ttl_ms,
            on_expiry=OnExpiry.KEEP if step.keeps else OnExpiry.GIVE_BACK,
            open_max=step.open_max,
        )


def _hold_played(hold: Hold) -> HoldPlayed:
    decision = hold.decision
    return HoldPlayed(
        decision.verdict,
        decision.credits,
        decision.allowance_left,
        decision.repeated,
        {"expires": hold.expires_at_ms, "resets": decision.resets_at_ms},
    )
