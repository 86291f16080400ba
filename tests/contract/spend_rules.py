"""Spends in any order: charges, holds, and what is only observed."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from contract import draws
from contract.machine import Comparison
from spec import steps
from spec.steps import Send


class SpendRules(Comparison):
    """Draws spends with new ids."""

    @rule(user=draws.USER, cost=draws.COST, allowance=draws.ALLOWANCE, send=draws.SEND)
    def charge(self, user: str, cost: int, **rest: object) -> None:
        self.play(steps.charge(self.new("c"), cost, user=user, **rest))

    @rule(
        user=draws.USER,
        cost=draws.COST,
        send=draws.SEND,
        age_ms=draws.AGE_MS,
        is_unlimited=st.booleans(),
        deadline_in_ms=draws.DEADLINE_IN_MS,
    )
    def charge_at_the_bounds(self, user: str, cost: int, **rest: object) -> None:
        self.play(steps.charge(self.new("c"), cost, user=user, **rest))

    @rule(drawn=draws.SPENDS)
    def charge_at_once(self, drawn: list[Any]) -> None:
        """Send several spends in one call."""
        names = [self.new("b") for _ in drawn]
        self.play(steps.batch(*draws.batch(names, drawn)))

    @rule(user=draws.USER, cost=draws.COST, back_ms=draws.BACK_MS, age_ms=draws.AGE_MS)
    def charge_while_the_clock_is_back(
        self, user: str, cost: int, back_ms: int, age_ms: int
    ) -> None:
        self.play(steps.step_back(back_ms))
        step = steps.charge(self.new("c"), cost, user=user, send=Send.FRESH, age_ms=age_ms)
        self.play(step)
        self.play(self.again(step))
        self.play(steps.wait(back_ms))

    @rule(user=draws.USER, limits=draws.LIMITS, limit_key=draws.LIMIT_KEY, times=draws.TIMES)
    def charge_within_limits(self, user: str, times: int, **rest: object) -> None:
        for _ in range(times):
            self.play(steps.charge(self.new("c"), 1, user=user, **rest))

    @rule(user=draws.USER, cost=draws.COST, key=draws.KEY, times=draws.TIMES)
    def charge_by_key(self, user: str, cost: int, times: int, **rest: object) -> None:
        for _ in range(times):
            self.play(steps.charge(self.new("c"), cost, user=user, **rest))

    @rule(
        user=draws.USER,
        estimate=draws.COST,
        ttl_ms=draws.TTL_MS,
        keeps=st.booleans(),
        allowance=draws.ALLOWANCE,
    )
    def hold(self, user: str, estimate: int, **rest: object) -> None:
        self.play(steps.hold(self.new("h"), estimate, user=user, **rest))

    @rule(
        user=draws.USER,
        estimate=draws.COST,
        open_max=draws.OPEN_MAX,
        limits=draws.LIMITS,
        send=draws.SEND,
    )
    def hold_within_limits(self, user: str, estimate: int, **rest: object) -> None:
        self.play(steps.hold(self.new("h"), estimate, user=user, **rest))

    @rule(user=draws.USER, cost=draws.COST, key=draws.KEY, ttl_ms=draws.TTL_MS, times=draws.TIMES)
    def hold_by_key(self, user: str, cost: int, times: int, **rest: object) -> None:
        for _ in range(times):
            self.play(steps.hold(self.new("h"), cost, user=user, **rest))

    @rule(
        user=draws.USER,
        cost=draws.COST,
        policy=draws.POLICY,
        allowance=draws.ALLOWANCE,
        limits=draws.LIMITS,
    )
    def observe(self, user: str, cost: int, **rest: object) -> None:
        self.play(steps.observe(self.new("o"), cost, user=user, **rest))
