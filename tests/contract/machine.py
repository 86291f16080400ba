"""Two backends that are asked the same, and must answer the same: memory and Redis.

Whatever is done, by whom and when: both answer alike, hold the same and record the same, and on
each the invariants hold (see `watch`).
"""

from collections import Counter
from dataclasses import fields, replace

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from contract.watch import Watch
from faregate.domain.attempt import Event
from faregate.domain.decision import Verdict
from faregate.domain.idempotency import KeyState
from faregate.domain.request import VoidOutcome
from spec import steps
from spec.driver import Driver, Played
from spec.redis_backend import FORGOTTEN_MS, RedisBackend
from spec.requests import Ids
from spec.stage import KINDS, Stage
from spec.steps import DAY_MS, Answer, Send, Step

#: For how long an id is recognised.
_WINDOW_MS = 60_000
_SPENDS = {"charge", "hold"}
_BY_ID = {*_SPENDS, "add", "adjust", "refund"}


class Comparison(RuleBasedStateMachine):
    """Plays each step on both backends, compares, and checks. The rules are in `rules`."""

    def __init__(self, stage: Stage, answers: Counter[tuple[str, str]]) -> None:
        super().__init__()
        self._stage = stage
        #: How often each operation was answered so, over all machines of a test.
        self._answers = answers
        self._has_failed = True
        #: All that was asked for by an id, and which charges and holds have taken something.
        self.asked: list[Step] = []
        self.charges: list[Step] = []
        self.holds: list[Step] = []
        self.deducts: list[Step] = []
        #: Spends with an idempotency key that are the first with it.
        self.keyed: list[Step] = []
        #: Spends with minted ids that a retry or a void has named, and whose first attempt may
        #: still arrive.
        self.named: list[Step] = []
        self.asked_at_ms: dict[str, int] = {}

    @initialize(shard_count=st.sampled_from([1, 2]), pending_max=st.sampled_from([1_000, 10]))
    def begin(self, shard_count: int, pending_max: int) -> None:
        """Start both backends with the same users and the same ids."""
        ids, bounds = Ids(), {"shard_count": shard_count, "pending_max": pending_max}
        memory, redis = (self._stage.backend(kind, **bounds) for kind in KINDS)
        assert isinstance(redis, RedisBackend)
        self._redis_backend = redis
        self.memory, self.redis = Driver(memory, ids), Driver(redis, ids)
        self._stage.loop.run(memory.start())
        self._stage.loop.run(redis.start())
        self._has_failed = False
        self._watches = Watch(self.memory), Watch(self.redis)

    def play(self, step: Step) -> Played:
        """Do a step on both backends, compare, and check."""
        note(repr(step))
        self._has_failed = True
        played = self._stage.loop.run(self._play(step))
        self._has_failed = False
        return played

    async def _play(self, step: Step) -> Played:
        expected, played = await self.memory.play(step), await self.redis.play(step)
        assert played == expected, difference(expected, played)
        self._remember(step, expected)
        seen = await self.memory.backend.look(), await self.redis.backend.look()
        assert seen[0] == seen[1], difference(*seen)
        if step.do in {"drain", "lose"}:
            assert self.memory.backend.store.rows == self.redis.backend.store.rows
        for watch, now in zip(self._watches, seen, strict=True):
            if step.do == "lose":
                watch.begin_from_rows()
            watch.check(step, expected, now)
        return expected

    def _remember(self, step: Step, played: Played) -> None:
        for part, came in zip(step.spends, played.parts, strict=True):
            self._remember(part, came)
        answer = played.answer
        self._answers[step.do, _name(answer)] += 1
        if step.name in self.asked_at_ms and step.do in _BY_ID:
            self.asked.append(step)
        is_voided = step.do == "void" and answer is not VoidOutcome.TOO_EARLY
        if is_voided or (step.do in _SPENDS and step.send is Send.RETRY):
            self.named.append(step)
        is_allowed = answer is Verdict.ALLOWED and not played.repeated
        if step.do not in _SPENDS or not is_allowed or not played.tells["sequence"]:
            return
        self.deducts.append(step)
        (self.charges if step.do == "charge" else self.holds).append(step)
        if played.tells["key_state"] is KeyState.NEW:
            self.keyed.append(step)

    def now_ms(self) -> int:
        """Return the time."""
        return self.memory.backend.clock()

    def new(self, kind: str) -> str:
        """Return a name that nothing has."""
        name = f"{kind}{len(self.asked_at_ms) + 1}"
        self.asked_at_ms[name] = self.now_ms()
        return name

    def again(self, step: Step) -> Step:
        """Return the same request, sent again."""
        is_minted = step.do in _SPENDS and step.send is not Send.GIVEN
        return replace(step, send=Send.RETRY) if is_minted else step

    def is_recent(self, step: Step) -> bool:
        """Say whether an id of a step is still recognised."""
        return self.now_ms() - self.asked_at_ms[step.name] <= _WINDOW_MS

    def teardown(self) -> None:
        """In the end all is durable, no hold is open, and what need not be remembered is gone."""
        if self._has_failed:
            return
        for step in (steps.wait(DAY_MS), steps.sweep(), steps.wait(FORGOTTEN_MS), steps.drain()):
            self.play(step)
        assert self._redis_backend.left() == set()


def _name(answer: Answer) -> str:
    if isinstance(answer, type):
        return answer.__name__
    return answer.name.lower() if isinstance(answer, Event) else str(answer)


def difference(memory: object, redis: object) -> str:
    """Say in which fields two values differ."""
    names = [each.name for each in fields(memory)]  # type: ignore[arg-type]
    pairs = {name: (getattr(memory, name), getattr(redis, name)) for name in names}
    unlike = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return "; ".join(
        f"{name}: in memory {one}, in Redis {two}" for name, (one, two) in unlike.items()
    )
