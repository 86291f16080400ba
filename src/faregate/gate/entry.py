"""How users come in: the ledger that must be the right one, first sight, tiers, balances."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    LedgerError,
)
from faregate.domain.policy import CreditPolicy, GateOptions, PolicySet
from faregate.domain.request import Charge
from faregate.domain.usage import Usage
from faregate.domain.user import User
from faregate.gate.retries import RetryQueue
from faregate.gate.terms import Call
from faregate.gate.tiers import TierOf
from faregate.ports import Accounts, Ledger, Shadows

_log = logging.getLogger(__name__)


class Entry:
    """What all use cases begin with."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        policies: CreditPolicy | PolicySet,
        options: GateOptions | None = None,
        tier_of: TierOf | None = None,
        *,
        shadows: Shadows | None = None,
    ) -> None:
        """Make a gate; nothing is connected before its first use.

        Args:
            ledger: Where live credits are.
            accounts: Where users and rows are.
            policies: One policy for everybody, or one for each tier.
            options: How the gate behaves beside that.
            tier_of: Says which tier a user has; None for the default one. See `tiers.CachedTiers`.
            shadows: Where policies that are only observed have their balances, if there are any.

        Raises:
            ConfigurationError: A policy is only observed, and there are no shadows.
        """
        self.policies = (
            PolicySet.single(policies) if isinstance(policies, CreditPolicy) else policies
        )
        #: Voids and refunds that could not be made at once.
        self.retries = RetryQueue()
        self._ledger = ledger
        self._accounts = accounts
        self._options = options or GateOptions()
        self._tier_of = tier_of
        self._shadows = shadows
        if shadows is None and any(policy.is_shadow for policy in self.policies.tiers.values()):
            raise ConfigurationError("a policy that is only observed needs `shadows`")
        self._attached = False
        self._attaching: asyncio.Future[None] | None = None
        self._installing: dict[UUID, asyncio.Future[bool]] = {}

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
            starting_credits = self.policies.of(None).starting_credits
            if identity.starting_credits != starting_credits:
                raise ConfigurationError(
                    f"the ledger was created with {identity.starting_credits} starting credits, "
                    f"the policy says {starting_credits}"
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

    async def balance(self, user_id: UUID, *, tier: str | None = None) -> User | None:
        """Return the balance that a charge would find now, or None if nobody knows the user."""
        await self.start()
        allowance = (await self.policy_of(user_id, tier)).granted
        user = await self._ledger.read(user_id, allowance)
        if user is None and await self.install(user_id):
            user = await self._ledger.read(user_id, allowance)
        return user

    async def usage(self, user_id: UUID, *, tier: str | None = None) -> Usage | None:
        """Return what a user has used and has left, or None if nobody knows the user."""
        user = await self.balance(user_id, tier=tier)
        return None if user is None else Usage.of(user, await self.policy_of(user_id, tier))

    async def renew(self, user_id: UUID, *, tier: str | None = None) -> int | None:
        """Begin a user's new period, if one is due, without a request; see `ops.renew`.

        Returns:
            How many credits that added; None if nobody knows the user.

        Raises:
            LedgerUnavailableError: Not done; the next request, or the next call, does it.
            AmountError: The balance would leave its range.
        """
        await self.start()
        allowance = (await self.policy_of(user_id, tier)).granted
        if allowance is None:
            return 0
        added = await self._ledger.renew(user_id, allowance)
        if added is None and await self.install(user_id):
            added = await self._ledger.renew(user_id, allowance)
        return added

    async def users_after(self, after: UUID | None, count_max: int) -> Sequence[UUID]:
        """Return the next users of Postgres, by id; `after` is None for the first."""
        return await self._accounts.users_after(after, count_max)

    async def policy_of(self, user_id: UUID, tier: str | None = None) -> CreditPolicy:
        """Return the policy of a tier or, without one, of the user's tier."""
        if tier is None and self._tier_of is not None:
            tier = await self._tier_of(user_id)
        return self.policies.of(tier)

    async def install(self, user_id: UUID) -> bool:
        """Bring a user that the ledger sees for the first time over from Postgres.

        However many of the user's requests come at once, Postgres is asked once.
        """
        installing = self._installing.get(user_id)
        if installing is None:
            installing = asyncio.ensure_future(self._install(user_id))
            self._installing[user_id] = installing
            installing.add_done_callback(lambda _: self._installing.pop(user_id, None))
        await asyncio.wait([installing])
        return installing.result()

    async def _install(self, user_id: UUID) -> bool:
        user = await self._accounts.open(user_id, provision=self._options.provision_users)
        if user is None:
            return False
        await self._ledger.install(user)
        return True

    def _charge(self, call: Call, policy: CreditPolicy) -> Charge:
        """Return the charge that a call means under a policy, asked for now."""
        return call.charge(policy, self._options, self._ledger.now_ms())

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the clock of Redis has reached for certain."""
        return self._ledger.now_ms()

    async def aclose(self) -> None:
        """Finish what is under way and let go of all connections."""
        await self.retries.aclose(self._options.close_timeout_s)
        await self._ledger.aclose()
        await self._accounts.aclose()
