"""Users of an API who keep a list of what they owe, whatever becomes of their requests."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from faregate import CreditTransactionId, Decision, FailureMode, Gate
from faregate.domain.errors import LedgerUnavailableError
from faregate.gate import Terms

SEED = 20_260


@dataclass(slots=True)
class Client:
    """A user who keeps a list of what it owes."""

    user_id: UUID
    random: random.Random
    requests: int = 0
    decided: int = 0
    served_open: int = 0
    refused: int = 0
    #: The decisions that stand, by what names the request: its attempt, or its key.
    standing: dict[str, int] = field(default_factory=dict)

    async def use(self, gate: Gate, number: int) -> None:
        """Make a request of one kind or another, as an API would for it."""
        self.requests += 1
        kind = self.random.choice(["open", "open", "closed", "refunded", "twice", "keyed"])
        cost = self.random.randint(1, 3)
        mode = FailureMode.CLOSED if kind == "closed" else FailureMode.OPEN
        try:
            if kind == "keyed":
                await self._use_key(gate, f"key {number // 3}", mode)
            elif kind == "twice":
                once = CreditTransactionId.mint(gate.now_ms())
                terms = Terms(transaction_id=once, on_failure=mode)
                for _ in range(2):
                    self._note(await gate.charge(self.user_id, cost=cost, **terms), str(once), cost)
            else:
                decision = await gate.charge(self.user_id, cost=cost, on_failure=mode)
                self._note(decision, str(decision.transaction_id), cost)
                if kind == "refunded":
                    await self._refund(gate, decision)
        except LedgerUnavailableError:
            self.refused += 1

    async def _use_key(self, gate: Gate, key: str, mode: FailureMode) -> None:
        terms = Terms(idempotency_key=key, fingerprint=key, on_failure=mode)
        self._note(await gate.charge(self.user_id, cost=2, **terms), key, 2)

    async def _refund(self, gate: Gate, decision: Decision) -> None:
        self.standing.pop(str(decision.transaction_id))
        with suppress(LedgerUnavailableError):
            # One that cannot be made at once is made in the background.
            await gate.refund(decision)

    def _note(self, decision: Decision, name: str, cost: int) -> None:
        assert decision.allowed
        self.served_open += decision.journaled
        self.decided += not decision.journaled
        self.standing[name] = cost


def chance(number: int) -> random.Random:
    """Return a source of numbers that a failure can be repeated with."""
    return random.Random(SEED + number)  # noqa: S311
