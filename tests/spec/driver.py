"""Plays the steps of scenarios on a backend."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from faregate.domain.alignment import Aligned, AlignmentOutcome, LiveAccount
from faregate.domain.attempt import AttemptError
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import FaregateError
from faregate.domain.hold import HoldAnswer
from faregate.domain.request import VoidOutcome
from faregate.domain.transaction import CREDITS_MAX, CreditTransactionId
from faregate.domain.user import User
from faregate.ports import Ledger
from spec.backends import Backend
from spec.requests import Ids, Requests
from spec.rows import WithRows
from spec.steps import Answer, Done, Step

#: What no comparison is about: it stands beside the rest of the answer, or is not the same.
_APART = {"verdict", "repeated", "position", "policy"}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a step: both backends must say the same."""

    answer: Answer
    repeated: bool = False
    #: All else that the answer says.
    tells: Mapping[str, object] = field(default_factory=dict)
    #: Of a batch: what came of each spend.
    parts: tuple["Played", ...] = ()


class Driver:
    """Plays steps on one backend."""

    def __init__(self, backend: Backend, ids: Ids | None = None) -> None:
        self.backend = backend
        self.ids = ids or Ids()
        self._sent: set[CreditTransactionId] = set()
        self._positions: dict[CreditTransactionId, str] = {}
        self._acts: dict[str, Callable[[Requests], Awaitable[object]]] = {
            "charge": self._spend,
            "hold": self._spend,
            "observe": self._spend,
            "batch": self._batch,
            "void": self._void,
            "add": self._credit,
            "adjust": self._credit,
            "refund": self._refund,
            "settle": lambda asked: self._ledger(asked).settle(asked.settlement()),
            "cancel": lambda asked: self._ledger(asked).settle(asked.settlement()),
            "extend": self._extend,
            "expire": self._expire_due,
            "sweep": self._sweep,
            "complete": self._complete,
            "kept": self._kept,
            "renew": self._renew,
            "read": self._read,
            "correct": self._correct,
            "counts": self._counts,
            "wait": self._wait,
            "drain": self._drain,
            "lose": lambda _: self.backend.lose(),
            "wipe": self._wipe,
            "spoil": self._spoil,
            "fill": self._fill,
            "alter": self._alter,
            "look": self._look,
            "align": self._align,
            "mend": self._mend,
        }
        self._looks: dict[CreditTransactionId, LiveAccount] = {}

    async def play(self, step: Step) -> Played:
        """Do one step; return what came of it."""
        try:
            asked = Requests(step, self.ids, self.backend.clock())
            return self._played(await self._acts[step.do](asked))
        except FaregateError as error:
            return _failed(error)

    def _played(self, outcome: object) -> Played:
        match outcome:
            case Played():
                return outcome
            case VoidOutcome():
                return Played(outcome)
            case Decision():
                if outcome.position:
                    self._positions[outcome.transaction_id] = outcome.position
                answer = outcome.shadow or outcome.verdict
                return Played(answer, outcome.repeated, self._tells(outcome))
            case Aligned():
                return Played(outcome.outcome, tells=asdict(outcome))
            case HoldAnswer():
                return Played(outcome.verdict, outcome.repeated, self._tells(outcome))
        return Played(Done.DONE)

    def _tells(self, outcome: Decision | HoldAnswer | User) -> dict[str, object]:
        told = {each.name: getattr(outcome, each.name) for each in fields(outcome)}
        for name in ("transaction_id", "hold_id", "attempt_id"):
            if told.get(name) is not None:
                told[name] = self.ids.name(told[name])
        return {name: value for name, value in told.items() if name not in _APART}

    def _ledger(self, asked: Requests) -> Ledger:
        return self.backend.ledger_of(asked.user_id)

    async def _spend(self, asked: Requests) -> Decision:
        attempt = asked.attempt(is_known=asked.id in self._sent)
        self._sent.add(asked.id)
        (outcome,) = await self.backend.decide([attempt])
        if isinstance(outcome, FaregateError):
            raise outcome
        return outcome

    async def _batch(self, asked: Requests) -> Played:
        """Send several spends at once; each has an answer of its own."""
        attempts = []
        for step in asked.step.spends:
            part = Requests(step, self.ids, self.backend.clock())
            attempts.append(part.attempt(is_known=part.id in self._sent))
            self._sent.add(part.id)
        outcomes = await self.backend.decide(attempts)
        parts = [
            _failed(outcome) if isinstance(outcome, FaregateError) else self._played(outcome)
            for outcome in outcomes
        ]
        return Played(Done.DONE, parts=tuple(parts))

    async def _void(self, asked: Requests) -> VoidOutcome:
        """Let a millisecond go by: a void comes after its deadline, and no charge does."""
        self.backend.clock.advance(1)
        return await self._ledger(asked).void(asked.void())

    async def _credit(self, asked: Requests) -> Decision:
        return await self._durable(asked).credit(asked.credit())

    async def _refund(self, asked: Requests) -> Decision:
        position = self._positions.get(asked.of, "") if asked.step.by_position else ""
        return await self._durable(asked).refund(asked.refund(position))

    def _durable(self, asked: Requests) -> WithRows:
        return WithRows(self._ledger(asked), self.backend.store)

    async def _extend(self, asked: Requests) -> HoldAnswer:
        return await self._ledger(asked).extend(asked.user_id, asked.id, asked.step.ttl_ms)

    async def _expire_due(self, asked: Requests) -> Played:
        ended = await self._ledger(asked).expire_due(asked.user_id)
        return Played(Done.DONE, tells={"ended": ended})

    async def _sweep(self, _asked: Requests) -> Played:
        return Played(Done.DONE, tells={"ended": self.backend.sweep()})

    async def _complete(self, asked: Requests) -> Played:
        is_known = await self._ledger(asked).complete(asked.completion())
        return Played(Done.COMPLETED if is_known else Done.UNKNOWN)

    async def _kept(self, asked: Requests) -> Played:
        response = await self._ledger(asked).response(asked.user_id, asked.id)
        answer = Done.UNKNOWN if response is None else Done.FOUND
        return Played(answer, tells={"told": response})

    async def _renew(self, asked: Requests) -> Played:
        assert asked.step.allowance is not None
        added = await self._ledger(asked).renew(asked.user_id, asked.step.allowance)
        if added is None:
            return Played(Verdict.UNKNOWN_USER)
        return Played(Done.RENEWED if added else Done.CURRENT, tells={"added": added})

    async def _read(self, asked: Requests) -> Played:
        user = await self._ledger(asked).read(asked.user_id, asked.step.allowance)
        if user is None:
            return Played(Verdict.UNKNOWN_USER)
        return Played(Done.FOUND, tells=self._tells(user))

    async def _correct(self, asked: Requests) -> None:
        amount = asked.step.amount or 0
        await self._ledger(asked).correct_shadow(asked.user_id, asked.policy(), amount)

    async def _counts(self, asked: Requests) -> Played:
        counts = await self.backend.shadow_counts(asked.step.policy)
        return Played(Done.FOUND, tells={verdict: counts.get(verdict, 0) for verdict in Verdict})

    async def _wait(self, asked: Requests) -> None:
        self.backend.clock.advance(asked.step.for_ms)

    async def _drain(self, asked: Requests) -> None:
        self.backend.drain(asked.step.batch_size, dies=asked.step.dies)

    async def _wipe(self, _asked: Requests) -> None:
        await self.backend.lose_all()

    async def _spoil(self, asked: Requests) -> None:
        self.backend.spoil(asked.user_id)

    async def _fill(self, _asked: Requests) -> None:
        await self.backend.fill()

    async def _alter(self, asked: Requests) -> None:
        self.backend.alter(asked.user_id, asked.step.amount)

    async def _look(self, asked: Requests) -> Played:
        account = self._account(asked)
        self._looks[asked.id] = account
        return Played(Done.UNKNOWN if account.user is None else Done.FOUND)

    async def _align(self, asked: Requests) -> Aligned:
        """Correct by what was looked at before, or by what is there now."""
        account = self._looks[asked.of] if asked.step.of else self._account(asked)
        return self.backend.accounts_of(asked.user_id).align(asked.alignment(account))

    async def _mend(self, asked: Requests) -> Aligned | Played:
        """Alter a balance, and correct it at once, and ask for that again."""
        account, amount = self._account(asked), asked.step.amount or 0
        if account.user is None or abs(account.user.credits - amount) > CREDITS_MAX:
            return Played(Done.UNKNOWN)
        self.backend.alter(asked.user_id, -amount)
        accounts, alignment = self.backend.accounts_of(asked.user_id), asked.alignment(account)
        done, again = accounts.align(alignment), accounts.align(alignment)
        assert again == replace(done, outcome=AlignmentOutcome.REPEATED)
        return done

    def _account(self, asked: Requests) -> LiveAccount:
        return self.backend.accounts_of(asked.user_id).read([asked.user_id])[asked.user_id]


def _failed(error: FaregateError) -> Played:
    return Played(error.event if isinstance(error, AttemptError) else type(error))
