"""Admission: decides whether a request, a connection, or a call of an endpoint is served.

`Admission.admit` identifies the caller, charges it by the rule, and returns a `ChargeContext`, or
the response that the client gets instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from starlette.types import Scope, Send

from faregate.asgi.answers import ProblemOptions, answer
from faregate.asgi.body import ClientDisconnectedError, RequestBody
from faregate.asgi.charge_context import ChargeContext
from faregate.asgi.headers import Headers, rate_limit_fields
from faregate.asgi.idempotency import (
    MalformedIdempotencyKeyError,
    SavedResponse,
    read_idempotency_key,
)
from faregate.asgi.identity import Identify
from faregate.asgi.identity.caller import Caller, caller_from
from faregate.asgi.logs import RequestLog
from faregate.asgi.problems import (
    COST_OUT_OF_RANGE,
    IDENTITY_UNAVAILABLE,
    KEY_MALFORMED,
    KEY_REQUIRED,
    NO_IDENTITY,
    Problem,
    problem_of_outage,
)
from faregate.asgi.refusals import problem_of
from faregate.asgi.rules import KeyUse, Rule, cost_of
from faregate.domain.decision import Decision, Verdict
from faregate.domain.errors import (
    AmountError,
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    IdentityUnavailableError,
    LedgerError,
    UnknownTierError,
)
from faregate.domain.idempotency import KeyState
from faregate.domain.policy import FailureMode
from faregate.gate import ChargeOptions, Gate

_ALLOWED, _CLOSED, _IGNORED = Verdict.ALLOWED, FailureMode.CLOSED, KeyUse.IGNORED


@dataclass(frozen=True, slots=True)
class Refusal:
    """The response to a request that is not served."""

    problem: Problem
    fields: Headers = field(default_factory=list)


class Unanswered:
    """Nothing is charged, and there is no response: the client has disconnected."""


Outcome: TypeAlias = ChargeContext | Refusal | SavedResponse | Unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Charges and refuses requests. One object serves all requests."""

    #: Returns the gate, which an app may open at its start.
    gate: Callable[[], Gate]
    identify: Identify
    refund_statuses: frozenset[int]
    problems: ProblemOptions
    #: The WWW-Authenticate field of a 401.
    challenge: Headers
    #: Whether X-RateLimit fields are sent as well.
    legacy_fields: bool
    log: RequestLog = field(default_factory=RequestLog)

    async def admit(self, scope: Scope, rule: Rule, body: RequestBody | None = None) -> Outcome:
        """Charge a request, once for its idempotency key.

        Args:
            scope: The request.
            rule: The rule of its path.
            body: Its body; None to ignore its idempotency key.

        Raises:
            InvalidArgumentError: A value from the application is ill-formed.
        """
        try:
            key = None if body is None or rule.key_use is _IGNORED else read_idempotency_key(scope)
            found = self.identify(scope)
            caller = found if type(found) is UUID else await caller_from(found)
            if caller is None:
                return Refusal(NO_IDENTITY, self.challenge)
            user_id, options = _as_charged(caller, rule)
            if body is not None and key is not None:
                fingerprint = await body.fingerprint()
                keyed = ChargeOptions(idempotency_key=key, fingerprint=fingerprint)
                return await self._admit_with_more(scope, rule, user_id, options, keyed)
            if rule.needs_more:
                return await self._admit_with_more(scope, rule, user_id, options, {})
            gate = self.gate()
            decision = await gate.charge(user_id, cost=rule.cost, **options)  # type: ignore[arg-type]
        except (FaregateError, MalformedIdempotencyKeyError, ClientDisconnectedError) as error:
            return self._outcome_of_error(error, rule)
        if decision.verdict is not _ALLOWED:
            return self.refusal(decision)
        return ChargeContext(gate, decision, options)

    async def _admit_with_more(
        self, scope: Scope, rule: Rule, user_id: UUID, options: ChargeOptions, keyed: ChargeOptions
    ) -> Outcome:
        """Charge a request with a key, a hold, or a cost that is computed."""
        if rule.key_use is KeyUse.REQUIRED and not keyed:
            return Refusal(KEY_REQUIRED)
        gate, hold = self.gate(), None
        own: ChargeOptions = {**options, **keyed}
        if rule.estimate is not None:
            estimate = await cost_of(rule.estimate, scope)
            hold = await gate.hold(user_id, estimate, ttl_ms=rule.hold_ttl_ms, **own)
            decision = hold.decision
        else:
            cost = None if rule.cost is None else await cost_of(rule.cost, scope)
            decision = await gate.charge(user_id, cost=cost, **own)
        if not decision.allowed:
            return self.refusal(decision)
        if decision.key_state is KeyState.DONE and rule.replay_bytes_max:
            saved = await gate.saved_response(decision)
            response = None if saved is None else SavedResponse.decode(saved, decision)
            if response is not None and response.is_acceptable(scope):
                return response
        if decision.key_state in {KeyState.IN_FLIGHT, KeyState.DONE}:
            return self.refusal(decision)
        return ChargeContext(gate, decision, options, hold)

    def refusal(self, decision: Decision) -> Refusal:
        """Return the response for a refusal."""
        fields = rate_limit_fields(decision, legacy=self.legacy_fields)
        return Refusal(problem_of(decision), fields)

    def _outcome_of_error(
        self,
        error: FaregateError | MalformedIdempotencyKeyError | ClientDisconnectedError,
        rule: Rule,
    ) -> Outcome:
        """Return the outcome of a request without a decision."""
        if isinstance(error, ClientDisconnectedError):
            return Unanswered()
        if isinstance(error, MalformedIdempotencyKeyError):
            return Refusal(KEY_MALFORMED)
        return Refusal(self._problem_of_error(error, rule))

    def _problem_of_error(self, error: FaregateError, rule: Rule) -> Problem:
        """Log an error that refuses a request, and return its problem."""
        log = self.log
        if isinstance(error, AmountError):
            # A computed cost may depend on what the client sent.
            log.warning("request refused, cost out of range: %s", error)
            return COST_OUT_OF_RANGE
        if isinstance(error, IdentityUnavailableError):
            log.warning("request refused, identity unavailable: %s", error)
            return IDENTITY_UNAVAILABLE
        is_of_some = isinstance(error, UnknownTierError) or rule.on_failure is not _CLOSED
        if isinstance(error, LedgerError | ArchiveUnavailableError):
            log.warning("request refused, ledger unavailable: %s", error)
        elif not isinstance(error, ConfigurationError):
            raise error
        elif is_of_some:
            log.error("request refused, configuration error: %s", error)
        else:
            log.error("all requests refused, configuration error: %s", error)
        return problem_of_outage(error)

    async def answer_instead(self, outcome: Outcome, scope: Scope, send: Send) -> None:
        """Send the refusal, or the response that was saved."""
        if isinstance(outcome, Refusal):
            options = self.problems
            await answer(outcome.problem, scope, send, fields=outcome.fields, options=options)
        elif isinstance(outcome, SavedResponse):
            fields = rate_limit_fields(outcome.decision, legacy=self.legacy_fields)
            await outcome.send(send, fields)


def _as_charged(caller: Caller | UUID, rule: Rule) -> tuple[UUID, ChargeOptions]:
    """Return the user and the options that differ from the defaults; most requests have none."""
    options: ChargeOptions = {}
    tier = rule.tier
    if isinstance(caller, Caller):
        tier = tier or caller.tier
        if caller.limit_key:
            options["limit_key"] = caller.limit_key
    if tier is not None:
        options["tier"] = tier
    if rule.on_failure is not _CLOSED:
        options["on_failure"] = rule.on_failure
    if rule.durability is not None:
        options["durability"] = rule.durability
    return (caller.user_id if isinstance(caller, Caller) else caller), options
