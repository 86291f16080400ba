"""Allowances: what a new period brings, and what is left of one."""

from faregate.domain.decision import Verdict
from faregate.domain.errors import AmountError
from faregate.domain.request import DurableDeduct
from faregate.domain.spend import TTL_MS_MAX
from faregate.domain.transaction import CREDITS_MAX
from spec.steps import (
    CARRYING,
    HOUR_MS,
    TEN,
    TWO,
    Step,
    add,
    adjust,
    cancel,
    charge,
    hold,
    refund,
    settle,
    wait,
)

ALLOWANCES: dict[str, list[Step]] = {
    "a new period restores the allowance and leaves bought credits alone": [
        # Five are bought; ten more come in each period, and are spent first.
        charge("a", 1, allowance=TEN, credits=14, left=9),
        charge("b", 12, allowance=TEN, credits=2, left=0),
        charge("c", 3, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=2, left=0),
        wait(HOUR_MS - 1),
        charge("d", 3, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=2, left=0),
        wait(1),
        charge("e", 1, allowance=TEN, credits=11, left=9),
        charge("f", 11, allowance=TEN, credits=0, left=0),
    ],
    "what is left lapses with its period, but for what is carried over": [
        charge("a", 4, allowance=TEN, credits=11, left=6),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        wait(5 * HOUR_MS),
        charge("c", 1, allowance=CARRYING, credits=16, left=11),
        wait(HOUR_MS),
        charge("d", 1, allowance=CARRYING, credits=16, left=11),
    ],
    "an allowance that becomes smaller takes nothing back": [
        charge("a", 1, allowance=TEN, credits=14, left=9),
        wait(HOUR_MS),
        charge("b", 1, allowance=TWO, credits=13, left=8),
        charge("c", 8, allowance=TWO, credits=5, left=0),
        wait(HOUR_MS),
        charge("d", 1, allowance=TWO, credits=6, left=1),
    ],
    "a debt is paid by one period, and not by each": [
        adjust("a", -15, negative_allowed=True, credits=-10),
        charge("b", 0, allowance=TEN, is_unlimited=True, credits=0, left=10),
        wait(HOUR_MS),
        charge("c", 10, allowance=TEN, credits=0, left=0),
        wait(HOUR_MS),
        charge("d", 10, allowance=TEN, credits=0, left=0),
    ],
    "a refusal begins no period": [
        charge("a", 16, allowance=TEN, answer=Verdict.OUT_OF_CREDITS, credits=15, left=10),
        charge("b", 0, allowance=TEN, credits=15, left=10),
        charge("c", 1, credits=4),
        wait(HOUR_MS),
        charge("d", 14, allowance=TEN, credits=0, left=0),
    ],
    "a refund in the same period restores bought credits first, then the allowance": [
        charge("a", 13, allowance=TEN, credits=2, left=0),
        refund("r", of="a", amount=4, credits=6, left=1),
        refund("s", of="a", amount=2, credits=8, left=3),
        refund("t", of="a", credits=15, left=10),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
    ],
    "a refund of an earlier period is the user's to keep": [
        charge("a", 10, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        refund("r", of="a", credits=24, left=9),
    ],
    "an old deduct is refunded to the allowance only while its period lasts": [
        charge("a", 9, allowance=TEN, credits=6, left=1),
        refund(
            "r",
            of="old",
            durable=DurableDeduct(amount=4, refunded=0, allowance_amount=4, period_start_ms=1),
            credits=10,
            left=1,
        ),
    ],
    "no top-up takes a balance out of its range": [
        add("a", CREDITS_MAX - 5, credits=CREDITS_MAX),
        charge("b", 1, allowance=TEN, answer=AmountError),
        hold("h", 1, allowance=TEN, answer=AmountError),
        hold("i", 1, open_max=1, credits=CREDITS_MAX - 1),
        adjust("d", 1, credits=CREDITS_MAX),
        hold("j", 1, open_max=1, allowance=TEN, answer=Verdict.TOO_MANY_HOLDS, credits=CREDITS_MAX),
        adjust("e", -1, credits=CREDITS_MAX - 1),
        cancel("i", credits=CREDITS_MAX),
        charge("c", 1, credits=CREDITS_MAX - 1),
    ],
    "a hold begins a period, spends the allowance first, and gives it back last": [
        hold("a", 13, allowance=TEN, credits=2, left=0),
        settle("a", 9, allowance=TEN, credits=6, left=1),
        hold("b", 1, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        hold("c", 1, allowance=TEN, credits=14, left=9),
        settle("b", 0, answer=Verdict.HOLD_EXPIRED, credits=15, left=9),
    ],
    "what a settlement lacks is taken from a new period": [
        hold("a", 15, ttl_ms=TTL_MS_MAX, allowance=TEN, credits=0, left=0),
        wait(HOUR_MS),
        settle("a", 18, allowance=TEN, credits=7, left=7, charged=3),
    ],
    "a settlement in a new period gives back what is the user's to keep": [
        hold("a", 10, ttl_ms=TTL_MS_MAX, allowance=TEN, credits=5, left=0),
        wait(HOUR_MS),
        charge("b", 1, allowance=TEN, credits=14, left=9),
        settle("a", 4, allowance=TEN, credits=20, left=9),
    ],
}
