"""Two sides that are asked the same, and must answer the same: the memory adapter and Redis.

Whatever is done, by whomever and whenever: both answer alike, hold the same and record the same,
and on each what must always hold does (see `watch`).
"""

import re
from collections import Counter
from dataclasses import fields

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from contract.watch import Watch
from faregate.domain.decision import Verdict
from play import steps
from spec.asking import Ids
from spec.player import Played, Player
from spec.staging import KINDS, Stage
from spec.steps import DAY_MS, Step

#: For how long an id is recognised.
_WINDOW_MS = 60_000
#: Longer than anything is remembered that is not remembered for good.
_FORGOTTEN_MS = 40 * DAY_MS
_BY_ID = {"charge", "hold", "add", "adjust", "refund"}
#: What is: users, streams, what the ledger was created with, counts, and the clock of the tests.
_FOR_GOOD = re.compile(r"fg:\{s0[01]\}:(u:.*|tx|epoch|ledger|shadow-counts:.*|test:now_us)")


class Comparison(RuleBasedStateMachine):
    """Plays each step on both sides, compares, and checks. The rules are in `rules`."""

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
        self.asked_at_ms: dict[str, int] = {}

    @initialize(shard_count=st.sampled_from([1, 2]), length_max=st.sampled_from([1_000, 10]))
    def begin(self, shard_count: int, length_max: int) -> None:
        """Start both sides with the same users and the same ids."""
        ids, bounds = Ids(), {"shard_count": shard_count, "stream_length_max": length_max}
        memory, redis = (self._stage.side(kind, **bounds) for kind in KINDS)
        self.memory, self.redis = Player(memory, ids), Player(redis, ids)
        self._stage.loop.run(memory.start())
        self._stage.loop.run(redis.start())
        self._has_failed = False
        self._watches = Watch(self.memory), Watch(self.redis)

    def play(self, step: Step) -> None:
        """Do a step on both sides, compare, and check."""
        note(repr(step))
        self._has_failed = True
        self._stage.loop.run(self._play(step))
        self._has_failed = False

    async def _play(self, step: Step) -> None:
        expected, played = await self.memory.play(step), await self.redis.play(step)
        answer = expected.answer
        self._answers[step.do, answer.__name__ if isinstance(answer, type) else answer] += 1
        assert played == expected, difference(expected, played)
        self._remember(step, expected)
        seen = await self.memory.side.look(), await self.redis.side.look()
        assert seen[0] == seen[1], difference(*seen)
        if step.do in {"drain", "lose"}:
            assert self.memory.side.books.rows == self.redis.side.books.rows
        for watch, now in zip(self._watches, seen, strict=True):
            if step.do == "lose":
                watch.begin_from_rows()
            watch.check(step, expected, now)

    def _remember(self, step: Step, played: Played) -> None:
        if step.name in self.asked_at_ms and step.do in _BY_ID:
            self.asked.append(step)
        is_allowed = played.answer is Verdict.ALLOWED and not played.repeated
        if step.do in {"charge", "hold"} and is_allowed and played.tells["sequence"]:
            self.deducts.append(step)
            (self.charges if step.do == "charge" else self.holds).append(step)

    def now_ms(self) -> int:
        """Return the time."""
        return self.memory.side.clock()

    def new(self, kind: str) -> str:
        """Return a name that nothing has."""
        name = f"{kind}{len(self.asked_at_ms) + 1}"
        self.asked_at_ms[name] = self.now_ms()
        return name

    def is_recent(self, step: Step) -> bool:
        """Say whether an id of a step is still recognised."""
        return self.now_ms() - self.asked_at_ms[step.name] <= _WINDOW_MS

    def teardown(self) -> None:
        """In the end all is durable, no hold is open, and what need not be remembered is gone."""
        if self._has_failed:
            return
        for step in (steps.wait(DAY_MS), steps.sweep(), steps.wait(_FORGOTTEN_MS), steps.drain()):
            self.play(step)
        left = {bytes(name).decode() for name in self._stage.client.scan_iter()}
        assert {name for name in left if not _FOR_GOOD.fullmatch(name)} == set()


def difference(memory: object, redis: object) -> str:
    """Say in what the two sides differ."""
    names = [each.name for each in fields(memory)]  # type: ignore[arg-type]
    pairs = {name: (getattr(memory, name), getattr(redis, name)) for name in names}
    unlike = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return "; ".join(
        f"{name}: in memory {one}, in Redis {two}" for name, (one, two) in unlike.items()
    )
