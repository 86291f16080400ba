"""All operations in any order: what may be asked of the two backends, by whom and when."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from contract import draws
from contract.machine import Comparison
from faregate.domain.policy import Allowance
from spec import steps
from spec.stage import Stage
from spec.steps import HOUR_MS, MINUTE_MS, Send, Step

#: Of how many steps one is asked for again, given back or ended.
_RECENT_MAX = 8
#: How much must have been asked for before all is lost, and before it is lost again.
_ASKED_MIN = 8


def _recent(name: str) -> st.SearchStrategy[Step]:
    """Draw one of the latest steps of a list of the machine."""
    return st.runner().flatmap(
        lambda machine: st.sampled_from(getattr(machine, name)[-_RECENT_MAX:])
    )


def _about(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Allow a rule only where there is something that it is about."""
    return precondition(lambda machine: bool(getattr(machine, name)))


_LISTS = ("asked", "deducts", "charges", "holds", "keyed", "named")
ASKED, DEDUCTS, CHARGES, HOLDS, KEYED, NAMED = map(_recent, _LISTS)


class LedgerMachine(Comparison):
    """Draws steps. Each rule is one that a caller, a worker, an operator or a network may take."""

    losses = 0

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

    @rule(user=draws.USER, amount=draws.AMOUNT)
    def add(self, user: str, amount: int) -> None:
        self.play(steps.add(self.new("a"), amount, user=user))

    @rule(user=draws.USER, amount=draws.CHANGE, negative_allowed=st.booleans())
    def adjust(self, user: str, amount: int, **rest: object) -> None:
        self.play(steps.adjust(self.new("a"), amount, user=user, **rest))

    @_about("deducts")
    @rule(of=DEDUCTS, amount=draws.PART, by_position=st.booleans(), times=draws.TIMES)
    def refund(self, of: Step, amount: int | None, times: int, **rest: object) -> None:
        for _ in range(times):
            self.play(steps.refund(self.new("r"), of.name, amount, user=of.user, **rest))

    @_about("holds")
    @rule(of=HOLDS, amount=draws.PART)
    def refund_the_end(self, of: Step, amount: int | None) -> None:
        """Give back what a settlement has taken beyond its estimate."""
        self.play(steps.refund(self.new("r"), f"end of {of.name}", amount, user=of.user))

    @_about("deducts")
    @rule(of=DEDUCTS, user=draws.USER, amount=draws.PART)
    def steal(self, of: Step, user: str, amount: int | None) -> None:
        self.play(steps.refund(self.new("r"), f"{of.user}'s {of.name}", amount, user=user))

    @_about("asked")
    @rule(of=ASKED, asked_in_ms=draws.ASKED_IN_MS, deadline_in_ms=draws.DEADLINE_IN_MS)
    def void(self, of: Step, asked_in_ms: int, deadline_in_ms: int) -> None:
        times = {"asked_in_ms": asked_in_ms, "deadline_in_ms": deadline_in_ms}
        if of.do in {"charge", "hold"}:
            self.play(replace(of, do="void", **times))  # type: ignore[arg-type]

    @_about("holds")
    @rule(
        of=HOLDS,
        actual=st.integers(-1, 9),
        overdraft_max=draws.OVERDRAFT,
        allowance=draws.ALLOWANCE,
    )
    def settle(self, of: Step, actual: int, **rest: object) -> None:
        self.play(steps.settle(of.name, actual, user=of.user, **rest))

    @_about("holds")
    @rule(of=HOLDS)
    def cancel(self, of: Step) -> None:
        self.play(steps.cancel(of.name, user=of.user))

    @_about("holds")
    @rule(of=HOLDS, ttl_ms=draws.TTL_MS)
    def extend(self, of: Step, ttl_ms: int) -> None:
        self.play(steps.extend(of.name, ttl_ms, user=of.user))

    @rule(user=st.one_of(st.none(), draws.USER))
    def expire(self, user: str | None) -> None:
        self.play(steps.expire_due(user=user) if user else steps.sweep())

    @_about("deducts")
    @rule(of=DEDUCTS, response=draws.RESPONSE)
    def complete(self, of: Step, response: bytes) -> None:
        # A key whose lifetime is over is forgotten at no time in particular.
        if self.now_ms() - self.asked_at_ms[of.name] < draws.KEY_LIFETIME_MS:
            self.play(steps.complete(of.name, user=of.user, response=response))
        self.play(steps.kept(of.name, None, user=of.user))

    @_about("deducts")
    @rule(of=DEDUCTS)
    def retry(self, of: Step) -> None:
        """Ask again for what has taken something."""
        self.play(self.again(of))

    @_about("asked")
    @rule(step=ASKED)
    def ask_again(self, step: Step) -> None:
        """Ask for the same again: a retry, or a message that the network has doubled."""
        self.play(self.again(step))

    @_about("named")
    @rule(of=NAMED, do=st.sampled_from(["charge", "hold"]))
    def arrive_late(self, of: Step, do: str) -> None:
        """Let a first attempt arrive after its retry or its void."""
        if of.send is not Send.GIVEN:
            do = do if of.do == "void" else of.do
            self.play(replace(of, do=do, send=Send.FRESH, asked_in_ms=0, deadline_in_ms=1_000))

    @_about("deducts")
    @rule(of=DEDUCTS)
    def come_back(self, of: Step) -> None:
        """Take a minted id for an id of the caller's."""
        self.play(replace(of, send=Send.GIVEN))

    @_about("asked")
    @rule(step=ASKED, amount=draws.AMOUNT)
    def change(self, step: Step, amount: int) -> None:
        """Ask for something else by the same id."""
        self.play(replace(self.again(step), amount=amount))

    @_about("deducts")
    @rule(
        step=ASKED,
        do=st.sampled_from(["charge", "hold", "add", "adjust", "refund"]),
        of=DEDUCTS,
    )
    def mistake(self, step: Step, do: str, of: Step) -> None:
        """Take an id for something that it is not."""
        if self.is_recent(step):
            send = Send.RETRY if step.do in {"charge", "hold"} else Send.GIVEN
            send = step.send if step.send is Send.GIVEN else send
            self.play(replace(step, do=do, of=of.name, send=send))

    @_about("keyed")
    @rule(of=KEYED, then=draws.AFTER_TAKEOVER, new_key=st.booleans())
    def take_over(self, of: Step, then: tuple[str, str], *, new_key: bool) -> None:
        """Ask for a request that was not completed in time, and let one of the two end it."""
        ms = self.asked_at_ms[of.name] + MINUTE_MS - self.now_ms()
        if ms > 0:
            self.play(steps.wait(ms))
        second = replace(of, name=self.new("t"), send=Send.FRESH)
        self.play(second)
        if new_key:
            self.play(self.again(second))
        do, who = then
        by = of.name if who == "first" else second.name
        end: dict[str, Step] = {
            "complete": steps.complete(of.name, user=of.user, by=by),
            "void": steps.void(by, user=of.user, asked_in_ms=-HOUR_MS),
            "refund": steps.refund(self.new("r"), of.name, user=of.user, by=by),
            "cancel": steps.cancel(of.name, user=of.user, by=by),
            "settle": steps.settle(of.name, 1, user=of.user, by=by),
        }
        if do != "complete" or self.now_ms() - self.asked_at_ms[of.name] < draws.KEY_LIFETIME_MS:
            self.play(end[do])
        self.play(replace(second, name=self.new("t")))

    @_about("deducts")
    @rule(of=DEDUCTS, allowance=draws.PERIODS, after_ms=draws.AFTER_MS)
    def renew(self, of: Step, allowance: Allowance, after_ms: int) -> None:
        self.play(steps.wait(after_ms))
        self.play(steps.renew(allowance, user=of.user))

    @rule(user=draws.USER, allowance=draws.ALLOWANCE)
    def read(self, user: str, allowance: Allowance | None) -> None:
        self.play(steps.read(allowance, user=user))

    @rule(
        user=draws.USER,
        cost=draws.COST,
        policy=draws.POLICY,
        allowance=draws.ALLOWANCE,
        limits=draws.LIMITS,
    )
    def observe(self, user: str, cost: int, **rest: object) -> None:
        self.play(steps.observe(self.new("o"), cost, user=user, **rest))

    @rule(
        user=draws.USER,
        amount=draws.CHANGE,
        policy=draws.POLICY,
        allowance=draws.ALLOWANCE,
    )
    def correct(self, user: str, amount: int, policy: str, allowance: Allowance | None) -> None:
        self.play(steps.correct(amount, user=user, policy=policy, allowance=allowance))
        self.play(steps.counts(policy))

    @rule(ms=draws.WAIT_MS)
    def wait(self, ms: int) -> None:
        self.play(steps.wait(ms))

    @_about("asked")
    @rule(of=ASKED, lasts_ms=draws.LASTS_MS, off_ms=draws.OFF_MS)
    def wait_until(self, of: Step, lasts_ms: int, off_ms: int) -> None:
        """Wait until something that began with a step is about to be over."""
        if of.do == "hold":
            lasts_ms = of.ttl_ms
        ms = self.asked_at_ms[of.name] + lasts_ms + off_ms - self.now_ms()
        if ms > 0:
            self.play(steps.wait(ms))

    @rule(batch_size=draws.BATCH_SIZE)
    def drain(self, batch_size: int) -> None:
        self.play(steps.drain(batch_size=batch_size))

    @rule()
    def die(self) -> None:
        """Store a batch, and die before it is acknowledged."""
        self.play(steps.drain(batch_size=1_000, dies=True))

    @precondition(lambda self: len(self.asked_at_ms) >= _ASKED_MIN * (1 + self.losses))
    @rule()
    def lose(self) -> None:
        self.losses += 1
        self.play(steps.lose())


def play_sequences(stage: Stage, chosen: settings) -> Counter[tuple[str, str]]:
    """Play sequences of steps; return how often each operation was answered how."""
    answers: Counter[tuple[str, str]] = Counter()

    def make() -> LedgerMachine:
        return LedgerMachine(stage, answers)

    run_state_machine_as_test(cast("Any", make), settings=chosen)
    return answers
