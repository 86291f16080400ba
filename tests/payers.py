"""Users who are charged again and again, and what they know of it: all of it must be rows."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from faregate import Decision, Durability, Gate
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError

CREDITS = 1_000_000_000
#: A call that takes longer hangs: no deadline of a test comes near.
HANG_S = 30.0
PAUSE_S_MAX = 0.02
COST_MAX = 9

_ROWS_SINCE = (
    "select rows.* from public.credit_transactions as rows"
    " join unnest(%s::uuid[], %s::bigint[]) as seen (user_id, sequence)"
    " on rows.user_id = seen.user_id and rows.sequence > seen.sequence"
    " order by rows.sequence"
)
_PROFILES = "select id, credits from public.profiles where id = any(%s)"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One charge: when it was asked for, in seconds of the event loop, and how long it took."""

    at_s: float
    took_s: float
    is_allowed: bool


@dataclass(slots=True)
class Payer:
    """A user, and its charges since the last look at its rows."""

    user_id: UUID
    draw: random.Random
    #: How far its rows were looked at: the starting row, at first.
    sequence: int = 1
    credits: int = CREDITS
    charged: list[Decision] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    #: The credits of charges of which nobody was told whether they were made.
    undecided: int = 0
    durability: Durability = Durability.MEMORY
    asked: list[Asked] = field(default_factory=list)

    async def pay(self, gate: Gate, over: asyncio.Event) -> None:
        """Be charged until it is over."""
        while not over.is_set():
            await self._pay_once(gate)
            await asyncio.sleep(self.draw.uniform(0, PAUSE_S_MAX))

    async def _pay_once(self, gate: Gate) -> None:
        cost = self.draw.randint(1, COST_MAX)
        now_s = asyncio.get_running_loop().time
        at_s, charged = now_s(), len(self.charged)
        try:
            async with asyncio.timeout(HANG_S):
                await self._charge(gate, cost)
        except OutcomeUnknownError:
            # To be given back if it was charged.
            self.events["undecided"] += 1
            self.undecided += cost
        except LedgerUnavailableError:
            self.events["not sent"] += 1
        self.asked.append(Asked(at_s, now_s() - at_s, is_allowed=len(self.charged) > charged))

    async def _charge(self, gate: Gate, cost: int) -> None:
        decision = await gate.charge(self.user_id, cost=cost, durability=self.durability)
        self.events[decision.verdict] += 1
        if decision.allowed:
            self.charged.append(decision)

    def check(self, rows: Sequence[Row]) -> None:
        """Make sure that the rows since the last look are these charges, each of them once.

        Other charges were given back. Sequences have no gap, and balances add up.
        """
        assert [row["sequence"] for row in rows] == [*self._next(len(rows))]
        for row in rows:
            self.credits += row["amount"]
            assert row["balance_after"] == self.credits
        self.sequence += len(rows)
        given_back = {row["refund_of"] for row in rows if row["type"] == "refund"}
        deducts = {row["id"]: row for row in rows if row["type"] == "deduct"}
        assert given_back <= deducts.keys()
        told = {
            decision.transaction_id.value: (decision.amount, decision.credits, decision.sequence)
            for decision in self.charged
        }
        assert len(told) == len(self.charged)
        assert told == {
            identity: (row["amount"], row["balance_after"], row["sequence"])
            for identity, row in deducts.items()
            if identity not in given_back
        }
        self.charged.clear()

    def _next(self, count: int) -> range:
        return range(self.sequence + 1, self.sequence + 1 + count)


def check_rows(payers: Sequence[Payer], database_url: str) -> int:
    """Look at all rows that came since the last look; return how many."""
    seen = [one.user_id for one in payers], [one.sequence for one in payers]
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute(_ROWS_SINCE, seen).fetchall()
        profiles = connection.execute(_PROFILES, seen[:1]).fetchall()
    durable = {profile["id"]: profile["credits"] for profile in profiles}
    for payer in payers:
        payer.check([row for row in rows if row["user_id"] == payer.user_id])
        assert durable[payer.user_id] == payer.credits
    return len(rows)
