"""Takes the toll of a request: by its rule, from its caller, or says why not.

One function for everything that can be charged: HTTP requests, WebSocket connections, and endpoints
that ask by themselves. What it returns is a `Fare`, or what the client is answered instead.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import Scope, Send

from faregate.asgi.fare import Fare
from faregate.asgi.headers import Headers, rate_limit_fields
from faregate.asgi.idempotency import KeptResponse, MalformedKeyError, fingerprint_of, key_of
from faregate.asgi.identity import Caller, Identify, caller_of
from faregate.asgi.problems import (
    COST_OUT_OF_RANGE,
    IDENTITY_UNAVAILABLE,
    KEY_DONE,
    KEY_IN_FLIGHT,
    KEY_MALFORMED,
    KEY_REQUIRED,
    NO_IDENTITY,
    UNAVAILABLE,
    Problem,
    ProblemOptions,
    answer,
    problem_of,
)
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

    gate: Gate | Callable[[], Gate]
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
            InvalidArgumentError: What the application computes as cost, or says of itself, is none.
        """
        try:
            key = self._key(scope, rule)
            caller = await caller_of(self.identify, scope)
        except MalformedKeyError:
            return Refusal(problem=KEY_MALFORMED, fields=[])
        except IdentityUnavailableError as error:
            _log.warning("a request is refused, since nobody can say whose it is: %s", error)
            return Refusal(problem=IDENTITY_UNAVAILABLE, fields=[])
        if caller is None:
            return Refusal(problem=NO_IDENTITY, fields=self.challenge)
        if key is None and rule.key_use is KeyUse.REQUIRED:
            return Refusal(problem=KEY_REQUIRED, fields=[])
        gate = self.open_gate()
        try:
            charged = await _charge(gate, scope, rule, caller, key)
            return await self._admit(gate, rule, charged)
        except AmountError as error:
            # A cost that is computed may follow from what the client asks for.
            _log.warning("a request is refused, since its cost cannot be charged: %s", error)
            return Refusal(problem=COST_OUT_OF_RANGE, fields=[])
        except (LedgerError, ArchiveUnavailableError) as error:
            _log.warning("a request is refused, since its charge cannot be decided: %s", error)
        except ConfigurationError as error:
            _log.error("every request is refused until this is put right: %s", error)
        return Refusal(problem=UNAVAILABLE, fields=[])

    def open_gate(self) -> Gate:
        """Return the gate, which an app may open as late as at its start."""
        return self.gate if isinstance(self.gate, Gate) else self.gate()

    def fields(self, decision: Decision) -> Headers:
        """Return the RateLimit fields for what a decision left; none if there was none."""
        if decision.journaled:
            return []
        now_ms = self.open_gate().now_ms()
        return rate_limit_fields(decision, now_ms, legacy=self.legacy_fields)

    @staticmethod
    def _key(scope: Scope, rule: Rule) -> str | None:
        is_asked = rule.key_use is not KeyUse.IGNORED and scope["type"] == "http"
        return key_of(scope) if is_asked else None

    async def _admit(self, gate: Gate, rule: Rule, charged: Decision | Hold) -> Taken:
        """Let a request in that is charged, unless it was served before."""
        decision = charged.decision if isinstance(charged, Hold) else charged
        if not decision.allowed:
            problem = problem_of(decision, now_ms=gate.now_ms(), options=self.problems)
            return Refusal(problem=problem, fields=self.fields(decision))
        if decision.key_state is KeyState.IN_FLIGHT:
            return Refusal(problem=KEY_IN_FLIGHT, fields=self.fields(decision))
        if decision.key_state is KeyState.DONE:
            kept = await gate.kept_response(decision) if rule.replay_bytes_max else None
            if kept is None:
                return Refusal(problem=KEY_DONE, fields=self.fields(decision))
            return KeptResponse.decode(kept, decision)
        return Fare(gate, charged, tier=rule.tier)


async def _charge(
    gate: Gate, scope: Scope, rule: Rule, caller: Caller, key: str | None
) -> Decision | Hold:
    terms = Terms(
        tier=rule.tier or caller.tier, limit_key=caller.limit_key, on_failure=rule.on_failure
    )
    if key is not None:
        terms["idempotency_key"], terms["fingerprint"] = key, fingerprint_of(scope)
    if rule.estimate is not None:
        estimate = await cost_of(rule.estimate, scope)
        return await gate.hold(caller.user_id, estimate, ttl_ms=rule.hold_ttl_ms, **terms)
    cost = None if rule.cost is None else await cost_of(rule.cost, scope)
    return await gate.charge(caller.user_id, cost=cost, **terms)


async def answer_instead(taken: Taken, toll: Toll, scope: Scope, send: Send) -> None:
    """Tell a client why it is not served, or what it was served before."""
    if isinstance(taken, Refusal):
        await answer(taken.problem, scope, send, fields=taken.fields)
    elif isinstance(taken, KeptResponse):
        await taken.send(send, toll.fields(taken.decision))
