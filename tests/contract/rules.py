"""All operations in any order: what may be asked of the two backends, by whom and when."""

from collections import Counter
from itertools import count
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from contract import draws
from contract.again_rules import AgainRules
from contract.earlier_steps import ASKED, DEDUCTS, HOLDS, KEYED, about
from faregate.domain.policy import Allowance
from faregate.domain.transaction import TransactionType
from soak import SOAK, tell
from spec import steps
from spec.stage import Stage
from spec.steps import Step

#: How often a long search says how far it is.
HISTORIES_BETWEEN_LINES = 100
#: How much must have been asked for before all is lost, and before it is lost again.
_ASKED_MIN = 8


class LedgerMachine(AgainRules):
    """Each rule is one that a caller, a worker, an operator or a network may take."""

    losses = 0

    @rule(user=draws.USER, amount=draws.AMOUNT)
    def add(self, user: str, amount: int) -> None:
        self.play(steps.add(self.new("a"), amount, user=user))

    @rule(user=draws.USER, amount=draws.CHANGE, negative_allowed=st.booleans())
    def adjust(self, user: str, amount: int, **rest: object) -> None:
        self.play(steps.adjust(self.new("a"), amount, user=user, **rest))

    # In long searches alone: with one more rule the sequences of `make test` are others.
    if SOAK:

        @rule(user=draws.USER, amount=draws.DRIFT, record=draws.RECORD)
        def mend(self, user: str, amount: int, record: TransactionType | None) -> None:
            """Write to Redis past the scripts, and let balance and ledger agree again."""
            name = self.new("m")
            self.play(steps.make("mend", name=name, amount=amount, user=user, record=record))

    @about("deducts")
    @rule(of=DEDUCTS, amount=draws.PART, by_position=st.booleans(), times=draws.TIMES)
    def refund(self, of: Step, amount: int | None, times: int, **rest: object) -> None:
        for _ in range(times):
            self.play(steps.refund(self.new("r"), of.name, amount, user=of.user, **rest))

    @about("holds")
    @rule(of=HOLDS, amount=draws.PART)
    def refund_the_end(self, of: Step, amount: int | None) -> None:
        """Give back what a settlement has taken beyond its estimate."""
        self.play(steps.refund(self.new("r"), f"end of {of.name}", amount, user=of.user))

    @about("holds")
    @rule(
        of=HOLDS,
        actual=st.integers(-1, 9),
        overdraft_max=draws.OVERDRAFT,
        allowance=draws.ALLOWANCE,
    )
    def settle(self, of: Step, actual: int, **rest: object) -> None:
        self.play(steps.settle(of.name, actual, user=of.user, **rest))

    @about("holds")
    @rule(of=HOLDS)
    def cancel(self, of: Step) -> None:
        self.play(steps.cancel(of.name, user=of.user))

    @about("holds")
    @rule(of=HOLDS, ttl_ms=draws.TTL_MS)
    def extend(self, of: Step, ttl_ms: int) -> None:
        self.play(steps.extend(of.name, ttl_ms, user=of.user))

    @rule(user=st.one_of(st.none(), draws.USER))
    def expire(self, user: str | None) -> None:
        self.play(steps.expire_due(user=user) if user else steps.sweep())

    @about("keyed")
    @rule(of=KEYED, response=draws.RESPONSE)
    def complete(self, of: Step, response: bytes) -> None:
        # A key whose lifetime is over is forgotten at no time in particular.
        if self.now_ms() - self.asked_at_ms[of.name] < draws.KEY_LIFETIME_MS:
            self.play(steps.complete(of.name, user=of.user, response=response))
        self.play(steps.kept(of.name, None, user=of.user))

    @about("deducts")
    @rule(of=DEDUCTS, allowance=draws.PERIODS, after_ms=draws.AFTER_MS)
    def renew(self, of: Step, allowance: Allowance, after_ms: int) -> None:
        self.play(steps.wait(after_ms))
        self.play(steps.renew(allowance, user=of.user))

    @rule(user=draws.USER, allowance=draws.ALLOWANCE)
    def read(self, user: str, allowance: Allowance | None) -> None:
        self.play(steps.read(allowance, user=user))

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

    @about("asked")
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
        """Store a batch, and die before Redis is told."""
        self.play(steps.drain(batch_size=1_000, dies=True))

    @precondition(lambda self: len(self.asked_at_ms) >= _ASKED_MIN * (1 + self.losses))
    @rule()
    def lose(self) -> None:
        self.losses += 1
        self.play(steps.lose())


def play_sequences(stage: Stage, chosen: settings) -> Counter[tuple[str, str]]:
    """Play sequences of steps; return how often each operation was answered how."""
    answers: Counter[tuple[str, str]] = Counter()

    begun = count(1)

    def make() -> LedgerMachine:
        number = next(begun)
        if number % HISTORIES_BETWEEN_LINES == 0:
            tell(f"histories: {number} begun")
        return LedgerMachine(stage, answers)

    run_state_machine_as_test(cast("Any", make), settings=chosen)
    return answers
