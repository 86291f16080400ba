"""The gate: the use cases of an API and of its operators, in one object."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faregate.domain.errors import ArchiveUnavailableError, LedgerError
from faregate.domain.health import Health
from faregate.domain.policy import CreditPolicy, GateOptions, PolicySet
from faregate.gate.adjustments import Adjustments
from faregate.gate.collecting import Collecting
from faregate.gate.completions import Completions
from faregate.gate.fallback import Fallback
from faregate.gate.follow_up import FollowUp
from faregate.gate.hold_ends import HoldEnds
from faregate.gate.queries import Queries
from faregate.gate.reversals import Reversals, Voids
from faregate.gate.session import Session
from faregate.gate.shadows import Shadows
from faregate.gate.spending import Spending
from faregate.gate.tiers import TierOf, Tiers
from faregate.ports import Accounts, History, Journal, Ledger

_log = logging.getLogger(__name__)


class Gate:
    """Charges users and gives back. All tasks of one event loop can share it.

    Most methods are those of its parts, bound directly:

    | method                                                                  | class         |
    |-------------------------------------------------------------------------|---------------|
    | `charge`, `hold`                                                        | `Spending`    |
    | `settle`, `cancel`, `extend`, `holding`                                 | `HoldEnds`    |
    | `refund`, `refund_by_id`                                                | `Reversals`   |
    | `grant`, `adjust`                                                       | `Adjustments` |
    | `complete`, `saved_response`                                             | `Completions` |
    | `balance`, `usage`, `history`, `renew`, `users_after`, `shadow_counts`  | `Queries`     |
    | `collect`, `follow`                                                     | `Collecting`  |
    | `start`, `install`                                                      | `Session`     |
    | `policy_of`, `tier_of`                                                  | `Tiers`       |
    """

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        policies: CreditPolicy | PolicySet,
        options: GateOptions | None = None,
        tier_of: TierOf | None = None,
        *,
        history: History | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Make a gate, which connects at its first use.

        Args:
            ledger: The ledger of live credits.
            accounts: The store of users and rows.
            policies: One policy for all users, or one for each tier.
            options: Further options.
            tier_of: Returns the tier of a user; None for the default one. See `tiers.CachedTiers`.
            history: The history that users read; None for none.
            journal: The journal of requests that are served without a decision; without it none is.
        """
        #: The policy of each tier.
        self.policies = (
            PolicySet.single(policies) if isinstance(policies, CreditPolicy) else policies
        )
        options = options or GateOptions()
        #: After how long a request of an idempotency key that was not completed is taken over.
        self.idempotency_lease_ms = options.idempotency_lease_ms
        starting_credits = self.policies.of(None).starting_credits
        self._session = session = Session(ledger, accounts, options, starting_credits)
        #: Pending voids, refunds and ends of holds.
        self.retries = session.retries
        #: Return a time that the clock of Redis has certainly reached, in Unix milliseconds.
        self.now_ms = ledger.now_ms
        self.start, self.install = session.start, session.install

        #: The number of requests under way, which a close waits for.
        self.under_way = 0
        self._fallback = Fallback(session, journal)
        self._history = history
        tiers = Tiers(self.policies, tier_of)
        self.policy_of, self.tier_of = tiers.policy_of, tiers.tier_of
        self._build_spending(tiers)
        self._build_accounting(tiers)

    def _build_spending(self, tiers: Tiers) -> None:
        session, fallback = self._session, self._fallback
        shadows = Shadows(session)
        reversals = Reversals(session, fallback, shadows)
        self._voids = voids = Voids(session, fallback, reversals)
        self._spending = Spending(session, tiers, FollowUp(session, voids), fallback)
        ends = HoldEnds(session, fallback, shadows, self._spending)
        completions = Completions(session)
        collecting = Collecting(session, reversals, voids)

        self.charge, self.hold = self._spending.charge, self._spending.hold
        self.settle, self.cancel, self.extend = ends.settle, ends.cancel, ends.extend
        self.holding = ends.holding
        self.refund, self.refund_by_id = reversals.refund, reversals.refund_by_id
        self.complete, self.saved_response = completions.complete, completions.saved_response
        self.collect, self.follow = collecting.collect, collecting.follow

    def _build_accounting(self, tiers: Tiers) -> None:
        queries = Queries(self._session, tiers, self._history)
        adjustments = Adjustments(self._session)

        self.balance, self.usage, self.history = queries.balance, queries.usage, queries.history
        self.renew, self.users_after = queries.renew, queries.users_after
        self.shadow_counts = queries.shadow_counts
        self.grant, self.adjust = adjustments.grant, adjustments.adjust

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Start, and close at the end: the lifespan of an ASGI app, `lifespan=gate.lifespan`.

        An app can start while a server is down, and answers 503 until the server is back. It does
        not start with settings that contradict the ledger.
        """
        try:
            await self.start()
        except (LedgerError, ArchiveUnavailableError) as error:
            _log.warning("gate started without Redis: %s", error)
        try:
            yield
        finally:
            await self.aclose()

    @property
    def serves_open(self) -> bool:
        """Whether there is a journal, which `FailureMode.OPEN` needs."""
        return self._fallback.is_there

    def health(self) -> Health:
        """Return the health of the gate now, without asking a server."""
        session, spending = self._session, self._spending
        breakers = session.breakers.health(lane.name for lane in session.ledger.lanes)
        return Health(
            breaker=breakers.worst.breaker,
            breaker_state_ms=breakers.worst.state_ms,
            breaker_opened=breakers.opened,
            lanes=breakers.lanes,
            retries_waiting=len(self.retries),
            retries_given_up=self.retries.given_up,
            shed=spending.shed,
            undecided=spending.undecided,
            served_open=spending.served_open,
            voids=self._voids.count,
            decisions=spending.decisions(),
            calls=session.ledger.calls,
            journal=self._fallback.state,
        )

    async def aclose(self) -> None:
        """Finish pending work and close all connections. `start` opens the gate again.

        It waits at most `GateOptions.close_timeout_s` for requests under way, which a server
        cancels at its end, and for their refunds. Callers that still wait for Redis then get a
        `LedgerUnavailableError`.
        """
        await self._session.aclose(lambda: not self.under_way)
        if self._history is not None:
            await self._history.aclose()
        await self._fallback.aclose()
