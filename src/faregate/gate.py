"""The use cases: what an API, and those who run it, do with credits."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerError,
    OutcomeUnknownError,
    TransactionConflictError,
    TransactionIdError,
)
from faregate.domain.policy import CreditPolicy, GateOptions
from faregate.domain.request import Charge, Credit, Refund, VoidOutcome
from faregate.domain.transaction import (
    CreditTransactionId,
    TransactionType,
)
from faregate.domain.user import User
from faregate.ports import Accounts, Ledger
from faregate.retries import RetryQueue

Metadata = Mapping[str, object]

_log = logging.getLogger(__name__)

#: How old a charge may be that a void finds in the ledger for certain. In milliseconds.
_VOID_AGE_MS_MAX = 60_000


class Gate:
    """Charges users, and gives back. Safe to share among all tasks of one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        policy: CreditPolicy,
        options: GateOptions | None = None,
    ) -> None:
        self.policy = policy
        #: Voids and refunds that could not be made at once.
        self.retries = RetryQueue()
        self._ledger = ledger
        self._accounts = accounts
        self._options = options or GateOptions()
        self._attached = False
        self._attaching: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Make sure that Redis and Postgres belong together. Called by the first use, too.

        Raises:
            LedgerUninitialisedError: Redis has lost what Postgres expects of it.
            ConfigurationError: The ledger was created with other settings.
        """
        if self._attached:
            return
        # One attempt serves all who wait for it, so that they fail together and not in a queue;
        # one of them that is cancelled does not end it.
        attempt = self._attaching or asyncio.ensure_future(self._attach())
        self._attaching = attempt
        await asyncio.wait([attempt])
        attempt.result()

    async def _attach(self) -> None:
        try:
            identity = await self._accounts.identity()
            if identity.starting_credits != self.policy.starting_credits:
                raise ConfigurationError(
                    f"the ledger was created with {identity.starting_credits} starting credits, "
                    f"the policy says {self.policy.starting_credits}"
                )
            await self._ledger.attach(identity)
            if not identity.installed:
                await self._accounts.mark_installed(identity.epoch)
            self._attached = True
        finally:
            self._attaching = None

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Start and, at the end, close: the lifespan of an ASGI app, `lifespan=gate.lifespan`.

        An app may start while a server is down: it answers 503 until the server is back. It does
        not start with settings that contradict the ledger.
        """
        try:
            await self.start()
        except (LedgerError, ArchiveUnavailableError) as error:
            _log.warning("started without a ledger: %s", error)
        try:
            yield
        finally:
            await self.aclose()

    async def charge(
        self,
        user_id: UUID,
        *,
        cost: int | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "request",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Take credits from a user, once for a transaction id.

        Args:
            user_id: Who is charged.
            cost: In credits; None for what the policy asks for a request.
            transaction_id: A UUIDv7 not older than a minute, where the caller may retry. None for
                a new one.
            description: What for, for people.
            metadata: What for, for programs: a JSON object.

        Raises:
            LedgerUnavailableError: Not decided in time. It is not charged, or is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
        """
        await self.start()
        now_ms = self._ledger.now_ms()
        if transaction_id is not None and transaction_id.time_ms is None:
            raise TransactionIdError("the id of a charge is a UUIDv7, so that its age is known")
        charge = Charge(
            user_id=user_id,
            transaction_id=transaction_id or CreditTransactionId.mint(now_ms),
            cost=self.policy.request_cost if cost is None else cost,
            asked_at_ms=now_ms,
            deadline_ms=now_ms + self._options.decision_timeout_ms,
            description=description,
            metadata=metadata,
            fresh=transaction_id is None,
        )
        try:
            decision = await self._ledger.charge(charge)
            if decision.verdict is Verdict.UNKNOWN_USER and await self._install(user_id):
                deadline_ms = self._ledger.now_ms() + self._options.decision_timeout_ms
                charge = replace(charge, deadline_ms=deadline_ms)
                decision = await self._ledger.charge(charge)
        except (OutcomeUnknownError, asyncio.CancelledError):
            self._void_later(charge)
            raise
        return decision

    async def refund(
        self,
        deduct: Decision,
        *,
        amount: int | None = None,
        description: str = "refund",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Give back a charge that was allowed, once and wholly unless `amount` says how much.

        A refund that cannot be made at once is tried in the background, and the error is raised.
        """
        return await self.refund_by_id(
            deduct.user_id,
            deduct.transaction_id,
            amount=amount,
            description=description,
            metadata=metadata,
            position=deduct.position,
        )

    async def refund_by_id(
        self,
        user_id: UUID,
        deduct_id: CreditTransactionId,
        *,
        amount: int | None = None,
        transaction_id: CreditTransactionId | None = None,
        description: str = "refund",
        metadata: Metadata | None = None,
        position: str = "",
    ) -> Decision:
        """Give a charge back by its id, however old it is.

        Args:
            user_id: Who was charged.
            deduct_id: The id of the charge.
            amount: In credits; None for all that is left of it.
            transaction_id: By which a retry is known; None for the one that stands for "the refund
                of this charge". Partial refunds each need one of their own.
            description: Why, for people.
            metadata: Why, for programs: a JSON object.
            position: `Decision.position` of the charge, where it is known.
        """
        await self.start()
        refund = Refund(
            user_id=user_id,
            deduct_id=deduct_id,
            transaction_id=transaction_id or CreditTransactionId.derive("refund", deduct_id.value),
            amount=amount,
            description=description,
            metadata=metadata,
            position=position,
        )
        name = f"refund of {deduct_id} of user {user_id}"
        try:
            decision = await self._refund(refund)
        except (LedgerError, ArchiveUnavailableError, asyncio.CancelledError):
            self.retries.submit(name, lambda: self._refund_again(refund))
            raise
        if decision.verdict is Verdict.BACKLOG:
            self.retries.submit(name, lambda: self._refund_again(refund))
        return decision

    async def _refund(self, refund: Refund) -> Decision:
        if refund.amount is not None:
            # The ledger remembers partial refunds for a day; Postgres for good.
            row = await self._accounts.transaction(refund.transaction_id)
            if row is not None:
                if (row.refund_of, row.amount) != (refund.deduct_id, refund.amount):
                    raise TransactionConflictError(f"{row.id} is known with other content")
                return Decision.repeat(row)
        decision = await self._ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_USER and await self._install(refund.user_id):
            decision = await self._ledger.refund(refund)
        if decision.verdict is Verdict.UNKNOWN_DEDUCT:
            durable = await self._accounts.deduct(refund.user_id, refund.deduct_id)
            if durable is not None:
                return await self._ledger.refund(replace(refund, durable=durable))
        return decision

    async def _refund_again(self, refund: Refund) -> bool:
        return (await self._refund(refund)).verdict is not Verdict.BACKLOG

    async def grant(
        self,
        user_id: UUID,
        amount: int,
        *,
        transaction_id: CreditTransactionId | None = None,
        description: str = "grant",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Give new credits, such as those of a purchase, once for a transaction id."""
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=await self._id_or_new(transaction_id),
                type=TransactionType.ADD,
                amount=amount,
                description=description,
                metadata=metadata,
            )
        )

    async def adjust(
        self,
        user_id: UUID,
        amount: int,
        *,
        negative_allowed: bool = False,
        transaction_id: CreditTransactionId | None = None,
        description: str = "adjustment",
        metadata: Metadata | None = None,
    ) -> Decision:
        """Correct a balance by hand. Only `negative_allowed` lets it go below zero."""
        return await self._credit(
            Credit(
                user_id=user_id,
                transaction_id=await self._id_or_new(transaction_id),
                type=TransactionType.ADMIN_ADJUSTMENT,
                amount=amount,
                description=description,
                metadata=metadata,
                negative_allowed=negative_allowed,
            )
        )

    async def _id_or_new(self, transaction_id: CreditTransactionId | None) -> CreditTransactionId:
        await self.start()
        return transaction_id or CreditTransactionId.mint(self._ledger.now_ms())

    async def _credit(self, credit: Credit) -> Decision:
        """Ask Postgres for the id first: the ledger remembers it for a day only."""
        row = await self._accounts.transaction(credit.transaction_id)
        if row is not None:
            if (row.user_id, row.amount, row.type) != (credit.user_id, credit.amount, credit.type):
                raise TransactionConflictError(f"transaction {row.id} is known with other content")
            return Decision.repeat(row)
        decision = await self._ledger.credit(credit)
        if decision.verdict is Verdict.UNKNOWN_USER and await self._install(credit.user_id):
            decision = await self._ledger.credit(credit)
        return decision

    async def balance(self, user_id: UUID) -> User | None:
        """Return a user's live balance, or None for a user that nobody knows."""
        await self.start()
        user = await self._ledger.read(user_id)
        if user is None and await self._install(user_id):
            user = await self._ledger.read(user_id)
        return user

    async def _install(self, user_id: UUID) -> bool:
        """Bring a user that the ledger sees for the first time over from Postgres."""
        user = await self._accounts.open(user_id, provision=self._options.provision_users)
        if user is None:
            return False
        await self._ledger.install(user)
        return True

    def _void_later(self, charge: Charge) -> None:
        name = f"void of {charge.transaction_id} of user {charge.user_id}"
        self.retries.submit(name, lambda: self._void(charge))

    async def _void(self, charge: Charge) -> bool:
        outcome = await self._ledger.void(charge)
        if outcome is VoidOutcome.TOO_EARLY:
            return False
        age_ms = self._ledger.now_ms() - (charge.transaction_id.time_ms or 0)
        if outcome is VoidOutcome.REFUSED and age_ms > _VOID_AGE_MS_MAX:
            # So late that the record may be a row by now, and no longer in the stream.
            return await self._refund_again(charge.void())
        return True

    async def aclose(self) -> None:
        """Finish what is under way and let go of all connections."""
        await self.retries.aclose(self._options.close_timeout_s)
        await self._ledger.aclose()
        await self._accounts.aclose()
