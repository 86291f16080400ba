"""The requests that a step makes of a ledger."""

from uuid import UUID

from faregate.domain.alignment import Alignment, AlignmentRecord, LiveAccount, LiveDrift
from faregate.domain.attempt import Attempt, Phase
from faregate.domain.hold import Settlement, closing_id
from faregate.domain.idempotency import Completion
from faregate.domain.policy import CreditPolicy, OnExpiry
from faregate.domain.request import Credit, Refund, Void
from faregate.domain.spend import HoldOptions, Spend, SpendOptions
from faregate.domain.transaction import CreditTransactionId, TransactionType
from spec.steps import HOUR_MS, STARTING_CREDITS, USERS, Send, Step

_CREDITS = {"add": TransactionType.ADD, "adjust": TransactionType.ADMIN_ADJUSTMENT}
_WITHOUT_TIME = " without a time"
_END_OF = "end of "


class Ids:
    """The ids that names stand for: UUIDv7 of the time of their first use, in that order."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, str], CreditTransactionId] = {}

    def of(self, user_id: UUID, name: str, time_ms: int) -> CreditTransactionId:
        """Return the id that a name of a user stands for, making it at first use.

        "bob's a" is what another user calls "a", "end of a" what the end of the hold "a" writes,
        and "a without a time" a UUIDv4.
        """
        owner, _, rest = name.rpartition("'s ")
        if owner:
            return self.of(USERS[owner], rest, time_ms)
        if name.startswith(_END_OF):
            return closing_id(self.of(user_id, name.removeprefix(_END_OF), time_ms))
        if (user_id, name) not in self._known:
            number = len(self._known) + 1
            version = 4 if name.endswith(_WITHOUT_TIME) else 7
            value = time_ms << 80 | version << 76 | 0b10 << 62 | number
            self._known[user_id, name] = CreditTransactionId(UUID(int=value))
        return self._known[user_id, name]

    def name(self, identity: CreditTransactionId) -> str:
        """Return the name that stands for an id, or the id."""
        names = (name for (_, name), known in self._known.items() if known == identity)
        return next(names, str(identity))


class Requests:
    """What one step asks for, by a user at a time."""

    def __init__(self, step: Step, ids: Ids, now_ms: int) -> None:
        self.step = step
        self.user_id = USERS.get(step.user, UUID(int=0))
        self._now_ms = now_ms
        self._ids = ids
        self.id = ids.of(self.user_id, step.name, now_ms - step.age_ms)

    def attempt(self, *, is_known: bool) -> Attempt:
        """Return an attempt of a spend.

        Args:
            is_known: Whether an attempt with its id was sent before.
        """
        attempt = Attempt(self._spend())
        attempt.transaction_id = self.id
        attempt.deadline_ms = self._now_ms + self.step.deadline_in_ms
        if self.step.send is Send.RETRY or (self.step.send is Send.MINTED and is_known):
            attempt.phase = Phase.SENT_AGAIN
        return attempt

    def policy(self) -> CreditPolicy:
        """Return the policy of a step."""
        is_shadow = self.step.do in {"observe", "correct"}
        return CreditPolicy(
            name=self.step.policy if is_shadow else "real",
            starting_credits=STARTING_CREDITS,
            allowance=self.step.allowance,
            limits=self.step.limits,
            is_unlimited=self.step.is_unlimited,
            is_shadow=is_shadow,
        )

    def _spend(self) -> Spend:
        step, hold = self.step, None
        if step.do == "hold":
            on_expiry = OnExpiry.KEEP if step.keeps else OnExpiry.GIVE_BACK
            hold = HoldOptions(ttl_ms=step.ttl_ms, on_expiry=on_expiry, open_max=step.open_max)
        options = SpendOptions(
            transaction_id=self.id if step.send is Send.GIVEN else None,
            description=f"{step.do} {step.name}",
            metadata={"name": step.name},
            limit_key=step.limit_key,
            key=step.key,
            hold=hold,
        )
        return Spend(self.user_id, step.amount or 0, self.policy(), options)

    def void(self) -> Void:
        """Return what undoes a spend."""
        first_in_ms = self.step.first_deadline_in_ms
        return Void(
            user_id=self.user_id,
            transaction_id=self.id,
            asked_at_ms=self._now_ms + self.step.asked_in_ms,
            deadline_ms=self._now_ms + self.step.deadline_in_ms,
            first_deadline_ms=0 if first_in_ms is None else self._now_ms + first_in_ms,
        )

    def settlement(self) -> Settlement:
        """Return how a hold is to end."""
        return Settlement(
            user_id=self.user_id,
            hold_id=self.id,
            actual=self.step.amount,
            attempt_id=self.by,
            overdraft_max=self.step.overdraft_max,
            allowance=self.step.allowance,
            description=f"end of {self.step.name}",
            metadata={"name": self.step.name},
        )

    def credit(self) -> Credit:
        """Return credits or an adjustment."""
        return Credit(
            user_id=self.user_id,
            transaction_id=self.id,
            type=_CREDITS[self.step.do],
            amount=self.step.amount or 0,
            description=f"{self.step.do} {self.step.name}",
            negative_allowed=self.step.negative_allowed,
        )

    def alignment(self, account: LiveAccount) -> Alignment:
        """Return the correction of an account that was looked at."""
        step, record = self.step, None
        if step.record is not None:
            record = AlignmentRecord(type=step.record, description=f"align {step.name}")
        drift = LiveDrift(
            account=account,
            amount=step.amount or 0,
            allowance_amount=step.part,
            sequence_min=step.sequence_min,
        )
        deadline_ms = self._now_ms + step.deadline_in_ms
        return Alignment(id=self.id, drift=drift, deadline_ms=deadline_ms, record=record)

    def refund(self, position: str) -> Refund:
        """Return a refund."""
        return Refund(
            user_id=self.user_id,
            deduct_id=self.of,
            transaction_id=self.id,
            amount=self.step.amount,
            description=f"refund {self.step.name}",
            attempt_id=self.by,
            position=position,
            durable=self.step.durable,
        )

    @property
    def of(self) -> CreditTransactionId:
        """The id of what the step is about."""
        return self._ids.of(self.user_id, self.step.of, self._now_ms)

    @property
    def by(self) -> CreditTransactionId | None:
        """The id of the attempt that does the step, if it says so."""
        by = self.step.by
        return self._ids.of(self.user_id, by, self._now_ms) if by else None

    def completion(self) -> Completion:
        """Return what is noted when a request has been served."""
        return Completion(
            user_id=self.user_id,
            transaction_id=self.id,
            attempt_id=self.by,
            response=self.step.response,
            lifetime_ms=HOUR_MS,
        )
