"""How users come in: the ledger that must be the right one, first sight, tiers, balances.

Nobody waits for Redis for longer than a decision may take, and while it decides nothing, nobody
waits at all: whatever a caller asks of it goes through `_guard`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    LedgerError,
    LedgerUnavailableError,
    UnresolvedError,
)
from faregate.domain.policy import CreditPolicy, GateOptions, PolicySet
from faregate.domain.request import Charge
from faregate.gate.breaker import CircuitBreaker
from faregate.gate.retries import RetryQueue
from faregate.gate.terms import Call
from faregate.gate.tiers import TierOf
from faregate.ports import Accounts, History, Journal, Ledger, Shadows

_T = TypeVar("_T")

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
        history: History | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Make a gate; nothing is connected before its first use.

        Args:
            ledger: Where live credits are.
            accounts: Where users and rows are.
            policies: One policy for everybody, or one for each tier.
            options: How the gate behaves beside that.
            tier_of: Says which tier a user has; None for the default one. See `tiers.CachedTiers`.
            shadows: Where policies that are only observed have their balances, if there are any.
            history: Where users read their rows, if they may.
            journal: Where requests are written down that are served without a decision; without
                it none is.

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
        self._history = history
        self._journal = journal
        self._breaker = CircuitBreaker(self._options.breaker)
        if shadows is None and any(policy.is_shadow for policy in self.policies.tiers.values()):
            raise ConfigurationError("a policy that is only observed needs `shadows`")
        self._attached = False
        self._attaching: asyncio.Future[None] | None = None
        self._start_failed = False
        self._installing: dict[UUID, asyncio.Future[bool]] = {}

    async def start(self) -> None:
        """Make sure that Redis and Postgres belong together. Called by the first use, too.

        Raises:
            LedgerUninitialisedError: Redis has lost what Postgres expects of it.
            ConfigurationError: The ledger was created with other settings.
        """
        if not self._attached:
            await self._wait_for_start(None)

    async def _ready(self) -> None:
        """Be started. The first try is waited for; later ones no longer than for a decision."""
        if not self._attached:
            timeout_s = self._decision_s if self._start_failed else None
            await self._guard(lambda: self._wait_for_start(timeout_s))

    async def _wait_for_start(self, timeout_s: float | None) -> None:
        # One attempt serves all who wait for it, so that they fail together and not in a queue;
        # one of them that gives up does not end it.
        attempt = self._attaching
        if attempt is None:
            attempt = self._attaching = asyncio.ensure_future(self._attach())
            attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([attempt], timeout=timeout_s)
        if not attempt.done():
            raise LedgerUnavailableError("the gate has not started yet; it is trying to")
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
        except FaregateError:
            self._start_failed = True
            raise
        finally:
            self._attaching = None

    @property
    def _decision_s(self) -> float:
        """How long a decision may take, in seconds."""
        return self._options.decision_timeout_ms / 1000

    async def _guard(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask Redis, unless it has failed to answer of late: then raise at once."""
        ticket = self._breaker.admit()
        try:
            answer = await ask()
        except UnresolvedError:
            self._breaker.abandoned(ticket)
            raise
        except (LedgerUnavailableError, ArchiveUnavailableError) as error:
            if self._breaker.failed(ticket):
                _log.warning("from now on nobody waits for a decision: %s", error)
            raise
        except BaseException:
            self._breaker.abandoned(ticket)
            raise
        if self._breaker.succeeded():
            _log.warning("decisions are made again")
        return answer

    async def _in_time(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask Redis for what can be asked again, and wait no longer than for a decision."""

        async def in_time() -> _T:
            try:
                async with asyncio.timeout(self._decision_s):
                    return await ask()
            except TimeoutError as error:
                message = f"no answer from Redis within {self._decision_s:.3f} s"
                raise LedgerUnavailableError(message) from error

        return await self._guard(in_time)

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

    async def policy_of(self, user_id: UUID, tier: str | None = None) -> CreditPolicy:
        """Return the policy of a tier or, without one, of the user's tier."""
        return self.policies.of(await self.tier_of(user_id, tier))

    async def tier_of(self, user_id: UUID, tier: str | None = None) -> str | None:
        """Return the tier or, without one, that of the user; None for the default one."""
        if tier is None and self._tier_of is not None:
            return await self._tier_of(user_id)
        return tier

    async def install(self, user_id: UUID) -> bool:
        """Bring a user that the ledger sees for the first time over from Postgres.

        However many of the user's requests come at once, Postgres is asked once.
        """
        installing = self._installing.get(user_id)
        if installing is None:
            installing = asyncio.ensure_future(self._install(user_id))
            self._installing[user_id] = installing
            # Looked at, since all who wait for it may give up.
            installing.add_done_callback(lambda done: done.cancelled() or done.exception())
            installing.add_done_callback(lambda _: self._installing.pop(user_id, None))
        await asyncio.wait([installing])
        return installing.result()

    async def _install(self, user_id: UUID) -> bool:
        user = await self._accounts.open(user_id, provision=self._options.provision_users)
        if user is None:
            return False
        await self._in_time(lambda: self._ledger.install(user))
        return True

    def _charge(self, call: Call, policy: CreditPolicy) -> Charge:
        """Return the charge that a call means under a policy, asked for now."""
        # As long as Redis has never answered, its time is not known, and nothing is sent to it.
        now_ms = self._ledger.now_ms() or time.time_ns() // 1_000_000
        return call.charge(policy, self._options, now_ms)

    def now_ms(self) -> int:
        """Return a time in Unix milliseconds that the clock of Redis has reached for certain."""
        return self._ledger.now_ms()

    async def aclose(self) -> None:
        """Finish what is under way and let go of all connections."""
        await self.retries.aclose(self._options.close_timeout_s)
        if self._journal is not None:
            await self._journal.aclose()
        await self._ledger.aclose()
        await self._accounts.aclose()
        if self._history is not None:
            await self._history.aclose()
