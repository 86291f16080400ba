"""Refusals as the client reads them: problem details for HTTP APIs (RFC 9457).

| code            | status     | type                                | Retry-After |
|-----------------|------------|-------------------------------------|-------------|
| out_of_credits  | 402 or 429 | quota-exceeded, of the draft        | of a 429    |
| rate_limited    | 429        | quota-exceeded, of the draft        | yes         |
| credits_held    | 429        | quota-exceeded, of the draft        | yes         |
| no_identity     | 401        | about:blank (the status says it all)| no          |
| unknown_user    | 403        | about:blank                         | no          |
| backlog         | 503        | temporary-reduced-capacity          | yes         |
| unavailable     | 503        | temporary-reduced-capacity          | yes         |

`code` is what programs switch on: it names one reason, where a status or a type covers several.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.types import Scope, Send

from faregate.asgi.headers import Headers
from faregate.domain.decision import Decision

#: Problem types that the RateLimit draft asks IANA to register, in its section 5.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"

#: The type of a problem that its status explains; its title is then the phrase of the status.
_NO_TYPE = "about:blank"

_BACKLOG_RETRY_AFTER_S = 5
_UNAVAILABLE_RETRY_AFTER_S = 1
_HELD_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal."""

    status: int
    #: A URI.
    type: str
    #: A sentence that is the same for all problems of the type.
    title: str
    #: One word that names the reason, for programs.
    code: str
    #: A sentence about this very refusal, for people.
    detail: str
    #: Further members of the body.
    extensions: Mapping[str, object] = field(default_factory=dict)
    #: When to try again at the earliest, in seconds; None where waiting does not help.
    retry_after_s: int | None = None

    def body(self) -> bytes:
        """Return the problem as JSON. Nothing in it comes from the request."""
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extensions,
        }
        return json.dumps(members).encode()


#: The ledger cannot decide now, so it does not serve (it fails closed).
UNAVAILABLE = Problem(
    status=503,
    type=REDUCED_CAPACITY,
    title="The service cannot take requests for a moment",
    code="unavailable",
    detail="Credits cannot be checked right now. This request is not charged.",
    retry_after_s=_UNAVAILABLE_RETRY_AFTER_S,
)

#: Too many records wait for Postgres.
BACKLOG = Problem(
    status=503,
    type=REDUCED_CAPACITY,
    title="The service cannot take requests for a moment",
    code="backlog",
    detail="Too many charges wait to be recorded. This request is not charged.",
    retry_after_s=_BACKLOG_RETRY_AFTER_S,
)

UNKNOWN_USER = Problem(
    status=403,
    type=_NO_TYPE,
    title=HTTPStatus.FORBIDDEN.phrase,
    code="unknown_user",
    detail="There is no account with credits for this user.",
)

NO_IDENTITY = Problem(
    status=401,
    type=_NO_TYPE,
    title=HTTPStatus.UNAUTHORIZED.phrase,
    code="no_identity",
    detail="This service charges credits, so it must know who you are.",
)


def out_of_credits(
    decision: Decision, *, status: int, policy_name: str, resets_in_s: int | None
) -> Problem:
    """Tell a user that its balance is smaller than the cost of the request.

    Where a new period brings enough, waiting helps: that is a 429, whatever `status` says.
    """
    cost = -decision.amount
    waiting_helps = resets_in_s is not None and cost <= decision.limit
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS if waiting_helps else status,
        retry_after_s=resets_in_s if waiting_helps else None,
        type=QUOTA_EXCEEDED,
        title="There are not enough credits for this request",
        code="out_of_credits",
        detail=f"This request costs {_credits(cost)}; the balance is {_credits(decision.credits)}.",
        extensions={
            "violated-policies": [policy_name],
            "credits": decision.credits,
            "cost": cost,
        },
    )


def rate_limited(decision: Decision) -> Problem:
    """Tell a user that a rate limit allows no request now, and when it will."""
    retry_after_s = -(-decision.retry_after_ms // 1000)
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        retry_after_s=retry_after_s,
        type=QUOTA_EXCEEDED,
        title="There are too many requests",
        code="rate_limited",
        detail=f"The limit {decision.limited_by!r} allows no request for {retry_after_s} s.",
        extensions={"violated-policies": [decision.limited_by]},
    )


def credits_held(decision: Decision, *, policy_name: str) -> Problem:
    """Tell a user that other requests, still under way, hold what this one would cost."""
    cost = -decision.amount
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        retry_after_s=_HELD_RETRY_AFTER_S,
        type=QUOTA_EXCEEDED,
        title="There are not enough credits for this request",
        code="credits_held",
        detail=f"This request costs {_credits(cost)}; the balance is {_credits(decision.credits)}, "
        "and requests that are under way hold more.",
        extensions={
            "violated-policies": [policy_name],
            "credits": decision.credits,
            "cost": cost,
        },
    )


def _credits(count: int) -> str:
    return f"{count} credit" if count == 1 else f"{count} credits"


async def answer(problem: Problem, scope: Scope, send: Send, *, fields: Headers) -> None:
    """Send a problem as the whole response; without its body, but with its length, to a HEAD."""
    body = problem.body()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *fields,
    ]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    shown = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": shown})
