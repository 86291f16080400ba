"""Takes the toll of a request: by its rule, from its caller, or says why not.

One function for everything that can be charged: HTTP requests, WebSocket connections, and endpoints
that ask by themselves. What it returns is a `Fare`, or what the client is answered instead.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import Scope, Send

from faregate.asgi.answers import ProblemOptions, answer
from faregate.asgi.fare import Fare
from faregate.asgi.headers import Headers, rate_limit_fields
from faregate.asgi.idempotency import KeptResponse, MalformedKeyError, fingerprint_of, key_of
from faregate.asgi.identity import Caller, Identify, caller_of
from faregate.asgi.problems import (
    COST_OUT_OF_RANGE,
    IDENTITY_UNAVAILABLE,
    KEY_MALFORMED,
    KEY_REQUIRED,
    NO_IDENTITY,
    UNAVAILABLE,
    Problem,
)
from faregate.asgi.refusals import problem_of
from faregate.asgi.rules import KeyUse, Rule, cost_of
from faregate.domain.decision import Decision
from faregate.domain.errors import (
    AmountError,
    ArchiveUnavailableError,
    ConfigurationError,
    IdentityUnavailableError,
    LedgerError,
)
from faregate.domain.hold import Hold
from faregate.domain.idempotency import KeyState
from faregate.gate import Gate, Terms

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a client is told instead of being served."""

    problem: Problem
    fields: Headers


Taken: TypeAlias = Fare | Refusal | KeptResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """How requests are charged and refused."""

    #: Returns the gate, which an app may open as late as at its start.
    gate: Callable[[], Gate]
    identify: Identify
    refund_statuses: frozenset[int]
    problems: ProblemOptions
    #: The WWW-Authenticate field of a 401.
    challenge: Headers
    #: Whether X-RateLimit fields are sent, too.
    legacy_fields: bool

    async def take(self, scope: Scope, rule: Rule) -> Taken:
        """Charge a request, once for its idempotency key.

        Raises:
            InvalidArgumentError: What the application says of a request is ill-formed.
        """
        problem = UNAVAILABLE
        try:
            asker = await self._asker(scope, rule)
            if isinstance(asker, Refusal):
                return asker
            gate = self.gate()
            charged = await _charge(gate, scope, rule, asker)
            return await self._admit(gate, rule, charged, asker)
        except AmountError as error:
            # A cost that is computed may follow from what the client asks for.
            _log.warning("a request is refused, since its cost cannot be charged: %s", error)
            problem = COST_OUT_OF_RANGE
        except (LedgerError, ArchiveUnavailableError) as error:
            _log.warning("a request is refused, since its charge cannot be decided: %s", error)
        except ConfigurationError as error:
            _log.error("every request is refused until this is put right: %s", error)
        return Refusal(problem=problem, fields=[])

    async def _asker(self, scope: Scope, rule: Rule) -> "_Asker | Refusal":
        """Return who asks, and by which key."""
        problem, fields = NO_IDENTITY, self.challenge
        try:
            key = _key_of(scope, rule)
            caller = await caller_of(self.identify, scope)
        except MalformedKeyError:
            return Refusal(problem=KEY_MALFORMED, fields=[])
        except IdentityUnavailableError as error:
            _log.warning("a request is refused, since nobody can say whose it is: %s", error)
            return Refusal(problem=IDENTITY_UNAVAILABLE, fields=[])
        if caller is not None and key is None and rule.key_use is KeyUse.REQUIRED:
            problem, fields = KEY_REQUIRED, []
        elif caller is not None:
            return _Asker(caller=caller, key=key, tier=rule.tier or caller.tier)
        return Refusal(problem=problem, fields=fields)

    def fields(self, decision: Decision) -> Headers:
        """Return the RateLimit fields for what a decision left; none if there was none."""
        if decision.journaled:
            return []
        now_ms = self.gate().now_ms()
        return rate_limit_fields(decision, now_ms, legacy=self.legacy_fields)

    async def _admit(
        self, gate: Gate, rule: Rule, charged: Decision | Hold, asker: "_Asker"
    ) -> Taken:
        """Let a request in that is charged, unless it was served before."""
        decision = charged.decision if isinstance(charged, Hold) else charged
        if not decision.allowed:
            return self._refusal(gate, decision)
        if decision.key_state is KeyState.DONE and rule.replay_bytes_max:
            kept = await gate.kept_response(decision)
            if kept is not None:
                return KeptResponse.decode(kept, decision)
        if decision.key_state in {KeyState.IN_FLIGHT, KeyState.DONE}:
            return self._refusal(gate, decision)
        return Fare(gate, charged, Terms(tier=asker.tier, on_failure=rule.on_failure))

    def _refusal(self, gate: Gate, decision: Decision) -> Refusal:
        now_ms = gate.now_ms()
        fields = rate_limit_fields(decision, now_ms, legacy=self.legacy_fields)
        return Refusal(problem=problem_of(decision, now_ms), fields=fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """Who sent a request, and as which."""

    caller: Caller
    key: str | None
    tier: str | None


def _key_of(scope: Scope, rule: Rule) -> str | None:
    is_asked = rule.key_use is not KeyUse.IGNORED and scope["type"] == "http"
    return key_of(scope) if is_asked else None


async def _charge(gate: Gate, scope: Scope, rule: Rule, asker: _Asker) -> Decision | Hold:
    user_id, limit_key = asker.caller.user_id, asker.caller.limit_key
    terms = Terms(tier=asker.tier, limit_key=limit_key, on_failure=rule.on_failure)
    if asker.key is not None:
        terms["idempotency_key"], terms["fingerprint"] = asker.key, fingerprint_of(scope)
    if rule.estimate is not None:
        estimate = await cost_of(rule.estimate, scope)
        return await gate.hold(user_id, estimate, ttl_ms=rule.hold_ttl_ms, **terms)
    cost = None if rule.cost is None else await cost_of(rule.cost, scope)
    return await gate.charge(user_id, cost=cost, **terms)


async def answer_instead(taken: Taken, toll: Toll, scope: Scope, send: Send) -> None:
    """Tell a client why it is not served, or what it was served before."""
    if isinstance(taken, Refusal):
        await answer(taken.problem, scope, send, fields=taken.fields, options=toll.problems)
    elif isinstance(taken, KeptResponse):
        await taken.send(send, toll.fields(taken.decision))
