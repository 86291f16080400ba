"""Charges and holds: each is one spend, which the ledger decides in one step."""

import logging
from asyncio import get_running_loop
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Unpack
from uuid import UUID

from faregate.domain.attempt import Attempt
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import ArchiveUnavailableError, LedgerError, LedgerUnavailableError
from faregate.domain.hold import Hold
from faregate.domain.policy import CreditPolicy, FailureMode, OnExpiry
from faregate.domain.spend import HoldOptions, SpendOptions, spend_of
from faregate.domain.transaction import check_whole
from faregate.domain.user import check_user_id
from faregate.gate.fallback import Fallback
from faregate.gate.follow_up import FollowUp, overloaded
from faregate.gate.options import ChargeOptions, spend_options
from faregate.gate.paced_log import PacedLog
from faregate.gate.session import Session
from faregate.gate.shadows import unobserved
from faregate.gate.tiers import Tiers

#: The default lifetime of a hold, in milliseconds.
TTL_MS = 60_000

_ALLOWED = Verdict.ALLOWED
_CLOSED, _OPEN = FailureMode.CLOSED, FailureMode.OPEN

_log = logging.getLogger(__name__)


class Spending:
    """Takes credits. The path of an allowed charge is `charge`, `_spend`, the ledger."""

    def __init__(
        self, session: Session, tiers: Tiers, follow_up: FollowUp, fallback: Fallback
    ) -> None:
        self._session = session
        self._tiers = tiers
        self._follow_up = follow_up
        self._fallback = fallback
        self._log_unobserved = PacedLog(_log)
        self._log_refused = PacedLog(_log, logging.INFO)
        #: By policy: the spends that it allowed at the first attempt, and the decisions on others.
        self.allowed: Counter[str] = Counter()
        self.followed: Counter[tuple[str, Verdict]] = Counter()
        #: See `Health`.
        self.shed = self.undecided = self.served_open = 0

    def charge(
        self, user_id: UUID, *, cost: int | None = None, **options: Unpack[ChargeOptions]
    ) -> Coroutine[Any, Any, Decision]:
        """Take credits from a user, once for each transaction id and idempotency key.

        Args:
            user_id: The user who is charged.
            cost: The cost in credits; None for that of the policy. 0 is a peek: it is decided, and
                nothing is written.
            **options: See `ChargeOptions`.

        Raises:
            LedgerUnavailableError: Not decided in time. It is not charged, or is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
            ConfigurationError: The policy serves without a decision, but there is no journal.
        """
        return self._spend(user_id, cost, options)

    async def hold(
        self,
        user_id: UUID,
        estimate: int,
        *,
        ttl_ms: int = TTL_MS,
        on_expiry: OnExpiry | None = None,
        **options: Unpack[ChargeOptions],
    ) -> Hold:
        """Take an estimate from a user, once for each transaction id; `settle` or `cancel` ends it.

        Args:
            user_id: The user who is charged.
            estimate: The estimate in credits, at least 1.
            ttl_ms: The lifetime in milliseconds, from 100 to a day.
            on_expiry: The end of the hold if it expires; None for that of the policy.
            **options: See `ChargeOptions`. The policy of the tier also applies to the end of the
                hold.

        Raises:
            LedgerUnavailableError: Not decided in time. Nothing is held, or it is being voided.
            InvalidArgumentError: An argument is ill-formed; nothing was written.
            ConfigurationError: The policy serves without a decision, but there is no journal.
        """
        check_whole("an estimate", estimate, 1)
        decision = await self._spend(
            user_id,
            estimate,
            options,
            lambda policy: HoldOptions(ttl_ms=ttl_ms, on_expiry=on_expiry or policy.on_expiry),
        )
        if decision.policy is not None and decision.policy.is_shadow:
            # There is no hold in the ledger, so its expiry is computed here.
            decision = replace(decision, expires_at_ms=self._session.ledger.now_ms() + ttl_ms)
        return Hold(decision=decision)

    async def _spend(
        self,
        user_id: UUID,
        cost: int | None,
        options: ChargeOptions,
        hold_options_of: Callable[[CreditPolicy], HoldOptions] | None = None,
    ) -> Decision:
        is_open = options.pop("on_failure", _CLOSED) is _OPEN and self._fallback.check()
        session, tiers, tier = self._session, self._tiers, options.pop("tier", None)
        if tier is None and tiers.resolver is not None:
            tier = await tiers.resolver(user_id)
        policy = tiers.policies.of(tier)
        cost = policy.cost_of(cost)
        hold = hold_options_of and hold_options_of(policy)
        asked = spend_options(options, policy, cost, session.options, hold)
        attempt = _attempt(user_id, cost, policy, asked)
        lane = session.ledger.lane(user_id, asked.durability or policy.durability)
        if lane.is_full:
            return self._followed(attempt, cost, overloaded(attempt), is_open=is_open)
        breaker = session.breakers.of(lane.name)
        try:
            if session.ready_on is get_running_loop() and not breaker.is_open:
                ticket = breaker.failures
            else:
                ticket = await session.enter(breaker)
                lane = session.ledger.lane(user_id, attempt.spend.durability)
            try:
                decision = await lane.decide(attempt)
            except BaseException as error:
                decision = await self._follow_up.resume(attempt, error, breaker, ticket)
            else:
                breaker.note_success()
                if decision.verdict is _ALLOWED:
                    self.allowed[policy.name] += 1
                    return decision
                decision = await self._follow_up.retry_refused(attempt, decision)
        except (LedgerError, ArchiveUnavailableError) as error:
            self.undecided += 1
            return self._serve(attempt, cost, error, is_open=is_open)
        return self._followed(attempt, cost, decision, is_open=is_open)

    def _followed(
        self, attempt: Attempt, cost: int, decision: Decision, *, is_open: bool
    ) -> Decision:
        """Return a decision, or serve a request that could not be decided."""
        key = attempt.spend.policy.name, decision.verdict
        self.followed[key] += 1
        if decision.verdict is not _ALLOWED:
            self._log_refused("charge refused by policy %s: %s, %s", *key, decision.transaction_id)
        if decision.verdict is Verdict.OVERLOADED:
            self.shed += 1
            if attempt.spend.policy.is_shadow or (is_open and self._fallback.may_serve_overload()):
                why = LedgerUnavailableError("more requests wait than can be decided in time")
                return self._serve(attempt, cost, why, is_open=True)
        elif decision.verdict is Verdict.BACKLOG and is_open:
            why = LedgerUnavailableError("too many records wait for Postgres")
            return self._serve(attempt, cost, why, is_open=True)
        return decision

    def decisions(self) -> dict[str, dict[Verdict, int]]:
        """Return how often each policy has decided how, by its name and the verdict."""
        counts = {name: {_ALLOWED: count} for name, count in self.allowed.items()}
        for (name, verdict), count in self.followed.items():
            of_policy = counts.setdefault(name, {})
            of_policy[verdict] = of_policy.get(verdict, 0) + count
        return counts

    def _serve(self, attempt: Attempt, cost: int, why: Exception, *, is_open: bool) -> Decision:
        """Serve a request without a decision, if its options allow this; else raise `why`."""
        if attempt.spend.policy.is_shadow:
            self._log_unobserved("shadow decision missing, request served: %s", why)
            return unobserved(attempt)
        if not is_open:
            raise why
        decision = self._fallback.serve(attempt, cost, why)
        self.served_open += 1
        return decision


def _attempt(user_id: UUID, cost: int, policy: CreditPolicy, asked: SpendOptions) -> Attempt:
    charged_cost = 0 if policy.is_unlimited else cost
    return Attempt(spend_of(check_user_id(user_id), charged_cost, policy, asked))
