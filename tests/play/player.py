"""Plays the steps of scenarios on a side."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from uuid import UUID

from faregate import CreditPolicy, Gate
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.hold import Hold, HoldAnswer
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User
from faregate.ports import HoldLedger
from play.asking import Asked, Ids
from play.sides import Side
from play.steps import STARTING_CREDITS, USERS, Answer, Done, Step

#: What no comparison is about: it stands beside the rest of the answer, or is not the same.
_APART = {"verdict", "repeated", "position"}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a step: both sides must say the same."""

    answer: Answer
    repeated: bool = False
    #: All else that the answer says.
    tells: Mapping[str, object] = field(default_factory=dict)


class Player:
    """Plays steps, as a gate would: Postgres is asked for what the ledger has forgotten."""

    def __init__(self, side: Side, ids: Ids | None = None) -> None:
        self.side = side
        self.ids = ids or Ids()
        self._positions: dict[CreditTransactionId, str] = {}
        self._acts: dict[str, Callable[[Asked], Awaitable[object]]] = {
            "charge": lambda asked: self._ledger(asked).charge(asked.charge()),
            "void": lambda asked: self._ledger(asked).void(asked.charge()),
            "add": self._credit,
            "adjust": self._credit,
            "refund": self._refund,
            "hold": lambda asked: self._ledger(asked).hold(asked.hold()),
            "settle": lambda asked: self._ledger(asked).settle(asked.settlement()),
            "void_hold": lambda asked: self._ledger(asked).void_hold(asked.hold()),
            "extend": self._extend,
            "expire_due": self._expire_due,
            "sweep": self._sweep,
            "complete": self._complete,
            "kept": self._kept,
            "renew": self._renew,
            "read": self._read,
            "observe": self._observe,
            "correct": self._correct,
            "counts": self._counts,
            "wait": self._wait,
            "drain": self._drain,
            "lose": lambda _: self.side.lose(),
            "wipe": self._wipe,
            "fill": self._fill,
        }

    async def play(self, step: Step) -> Played:
        """Do one step; return what came of it."""
        user_id = USERS.get(step.user, UUID(int=0))
        try:
            asked = Asked(step, user_id, self.ids, self.side.clock())
            return self._played(await self._acts[step.do](asked))
        except FaregateError as error:
            return Played(type(error))

    def _played(self, outcome: object) -> Played:
        match outcome:
            case Played():
                return outcome
            case VoidOutcome():
                return Played(outcome)
            case Decision():
                self._positions[outcome.transaction_id] = outcome.position
                answer = outcome.shadow or outcome.verdict
                return Played(answer, outcome.repeated, self._tells(outcome))
            case HoldAnswer():
                return Played(outcome.verdict, outcome.repeated, self._tells(outcome))
            case Hold():
                played = self._played(outcome.decision)
                tells = {**played.tells, "expires_at_ms": outcome.expires_at_ms}
                return replace(played, tells=tells)
        return Played(Done.DONE)

    def _tells(self, outcome: Decision | HoldAnswer | User) -> dict[str, object]:
        told = {each.name: getattr(outcome, each.name) for each in fields(outcome)}
        for name in ("transaction_id", "hold_id", "attempt_id"):
            if told.get(name) is not None:
                told[name] = self.ids.name(told[name])
        return {name: value for name, value in told.items() if name not in _APART}

    def _ledger(self, asked: Asked) -> HoldLedger:
        return self.side.ledger_of(asked.user_id)

    def _gate(self, asked: Asked) -> Gate:
        policy = CreditPolicy(starting_credits=STARTING_CREDITS)
        return Gate(self._ledger(asked), self.side.books, policy)

    async def _credit(self, asked: Asked) -> Decision:
        return await self._gate(asked)._credit(asked.credit())

    async def _refund(self, asked: Asked) -> Decision:
        position = self._positions.get(asked.of, "") if asked.step.by_position else ""
        refund = asked.refund(position)
        if refund.durable is not None:
            return await self._ledger(asked).refund(refund)
        return await self._gate(asked)._refund(refund)

    async def _extend(self, asked: Asked) -> HoldAnswer:
        return await self._ledger(asked).extend(asked.user_id, asked.id, asked.step.ttl_ms)

    async def _expire_due(self, asked: Asked) -> Played:
        ended = await self._ledger(asked).expire_due(asked.user_id)
        return Played(Done.DONE, tells={"ended": ended})

    async def _sweep(self, _asked: Asked) -> Played:
        return Played(Done.DONE, tells={"ended": await self.side.sweep()})

    async def _complete(self, asked: Asked) -> Played:
        is_known = await self._ledger(asked).complete(asked.completion())
        return Played(Done.COMPLETED if is_known else Done.UNKNOWN)

    async def _kept(self, asked: Asked) -> Played:
        response = await self._ledger(asked).response(asked.user_id, asked.id)
        answer = Done.UNKNOWN if response is None else Done.FOUND
        return Played(answer, tells={"told": response})

    async def _renew(self, asked: Asked) -> Played:
        assert asked.step.allowance is not None
        added = await self._ledger(asked).renew(asked.user_id, asked.step.allowance)
        if added is None:
            return Played(Verdict.UNKNOWN_USER)
        return Played(Done.RENEWED if added else Done.CURRENT, tells={"added": added})

    async def _read(self, asked: Asked) -> Played:
        user = await self._ledger(asked).read(asked.user_id, asked.step.allowance)
        if user is None:
            return Played(Verdict.UNKNOWN_USER)
        return Played(Done.FOUND, tells=self._tells(user))

    async def _observe(self, asked: Asked) -> Decision:
        return await self.side.shadows_of(asked.user_id).observe(asked.observation())

    async def _correct(self, asked: Asked) -> None:
        amount = asked.step.amount or 0
        await self.side.shadows_of(asked.user_id).correct(asked.observation(), amount)

    async def _counts(self, asked: Asked) -> Played:
        counts = await self.side.counts(asked.step.policy)
        return Played(Done.FOUND, tells={verdict: counts.get(verdict, 0) for verdict in Verdict})

    async def _wait(self, asked: Asked) -> None:
        self.side.clock.advance(asked.step.for_ms)

    async def _drain(self, asked: Asked) -> None:
        self.side.drain(asked.step.batch_size, dies=asked.step.dies)

    async def _wipe(self, _asked: Asked) -> None:
        self.side.lose_all()

    async def _fill(self, _asked: Asked) -> None:
        self.side.fill()
