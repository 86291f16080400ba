"""The calls, commands and records of each feature are as many as docs/costs.md says."""

import re
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis import Redis

from faregate import (
    Allowance,
    CreditPolicy,
    Gate,
    LimitKind,
    Period,
    PeriodKind,
    PolicySet,
    RateLimit,
    Settings,
    Verdict,
    build_gate,
)
from faregate.bootstrap import open_stream

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

PAGE = Path(__file__).resolve().parents[2] / "docs/costs.md"
#: A row of the table: what is done, calls, commands inside, records.
ROW = re.compile(r"^\| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|$", re.M)
CALLS = {"fcall", "evalsha"}
#: What this test sends itself, and what only says that a link is alive.
NOT_COUNTED = {"info", "time", "ping"}


def limited(name: str, *limits: RateLimit) -> CreditPolicy:
    return CreditPolicy(name=name, limits=limits)


def often(name: str, **kind: object) -> RateLimit:
    """A limit that refuses nobody here."""
    return RateLimit(name=name, count=1_000, period_ms=60_000, **kind)  # type: ignore[arg-type]


POLICIES = PolicySet(
    tiers={
        "default": CreditPolicy(),
        "limits": limited("limits", often("one"), often("two")),
        "window": limited("window", often("window", kind=LimitKind.WINDOW)),
        "by_key": limited("by_key", often("by_key", is_by_key=True)),
        "allowance": CreditPolicy(
            name="allowance", allowance=Allowance(amount=9, period=Period(kind=PeriodKind.MONTH))
        ),
        "unlimited": CreditPolicy(name="unlimited", is_unlimited=True),
        "shadow": CreditPolicy(name="shadow", is_shadow=True),
    }
)


class Features:
    """What the page lists, each for one user."""

    def __init__(self, gate: Gate, user: UUID) -> None:
        self._gate = gate
        self._user = user
        self._keys = (f"key-{number}" for number in count())

    def all(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """By their names in the page."""
        gate, user = self._gate, self._user
        charge = gate.charge
        return {
            "charge": lambda: charge(user),
            "refused": self._refused,
            "peek (cost 0)": lambda: charge(user, cost=0),
            "charge with 2 rate limits": lambda: charge(user, tier="limits"),
            "charge with an allowance": lambda: charge(user, tier="allowance"),
            "charge under an unlimited policy": lambda: charge(user, tier="unlimited"),
            "charge with description and metadata": lambda: charge(
                user, description="a report", metadata={"tokens": 17}
            ),
            "charge with a limit by key": lambda: charge(user, tier="by_key", limit_key="a key"),
            "charge with a window": lambda: charge(user, tier="window"),
            "charge with an idempotency key": lambda: charge(
                user, idempotency_key=next(self._keys), fingerprint="a request"
            ),
            "the same, completed": self._completed,
            "hold": lambda: gate.hold(user, 5),
            "hold, settled at the estimate": lambda: self._settled(5),
            "hold, settled below it": lambda: self._settled(3),
            "charge, refunded": self._refunded,
            "shadow policy": lambda: charge(user, tier="shadow"),
            "usage, balance": lambda: gate.usage(user),
            "first request of a user": lambda: charge(uuid4()),
        }

    async def _refused(self) -> None:
        refused = await self._gate.charge(self._user, cost=1_000_000)
        assert refused.verdict is Verdict.OUT_OF_CREDITS

    async def _completed(self) -> None:
        key = next(self._keys)
        await self._gate.complete(await self._gate.charge(self._user, idempotency_key=key))

    async def _settled(self, cost: int) -> None:
        await self._gate.settle(await self._gate.hold(self._user, 5), cost)

    async def _refunded(self) -> None:
        await self._gate.refund(await self._gate.charge(self._user))


def commands(client: Redis) -> tuple[int, int]:
    """How many calls Redis has had, and how many commands inside them."""
    found = client.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()}
    return (
        sum(counts.get(name, 0) for name in CALLS),
        sum(number for name, number in counts.items() if name not in CALLS | NOT_COUNTED),
    )


async def test_each_feature_costs_the_figures_of_the_page(
    ledger_redis: str, database_url: str, client: Redis
) -> None:
    """For a user that Redis knows, in a request that comes alone, once scripts are loaded."""
    settings = Settings(redis_url=ledger_redis, postgres_url=database_url, provision_users=True)
    told = {
        name: (int(a), int(b), int(c)) for name, a, b, c in ROW.findall(PAGE.read_text("utf-8"))
    }
    gate, user = build_gate(settings, POLICIES), uuid4()
    counted = {}
    async with gate.lifespan():
        await gate.charge(user)
        await gate.grant(user, 1_000)
        with open_stream(settings) as stream:
            for name, feature in Features(gate, user).all().items():
                await feature()
                records_before = stream.pending_count()
                calls_before, inside_before = commands(client)
                await feature()
                calls, inside = commands(client)
                records = stream.pending_count() - records_before
                counted[name] = calls - calls_before, inside - inside_before, records
    assert counted == told
