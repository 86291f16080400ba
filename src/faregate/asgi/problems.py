"""Refusals for clients: problem details for HTTP APIs (RFC 9457).

Each has a `code` for programs: one word for one reason, since a status or a type covers several.
`docs/problems.md` explains each code, `docs/problem.schema.json` describes the bodies. Nothing in a
body comes from the request.

Types are those of the RateLimit draft if it has one, and `about:blank` if the status says enough.
Others begin with a URN of a random UUID, which needs no registration and collides with no other. An
https URL would need a domain that is ours for good, as would a `tag:`. These types identify only.
To make them links to a page, host `docs/problems.md` and set `ProblemOptions.types_prefix`.

Names of members have underscores, as RFC 9457 requires in section 3.2, except that of the draft.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from faregate.domain.errors import FaregateError, LedgerUninitialisedError
from faregate.domain.history import PAGE_LENGTH_MAX

#: Problem types of the RateLimit draft (section 10.2), and their titles. All problems of a type
#: have the same title.
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
QUOTA_TITLE = "Quota Exceeded"
_CAPACITY_TITLE = "Temporary Reduced Capacity"
#: The type of a problem whose status says enough. Its title is the phrase of the status.
ABOUT_BLANK = "about:blank"
#: The prefix of our own types; a code follows.
TYPES_PREFIX = "urn:uuid:3ec9fd57-8b1c-484c-b7a1-99677420ca4b#"

#: The status of each code. `out_of_credits` is a 429 if the next reset brings enough.
STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "cost_out_of_range": 400,
        "invalid_cursor": 400,
        "invalid_limit": 400,
        "key_required": 400,
        "key_malformed": 400,
        "no_identity": 401,
        "out_of_credits": 402,
        "unknown_user": 403,
        "voided": 409,
        "key_in_flight": 409,
        "key_done": 409,
        "key_reused": 422,
        "rate_limited": 429,
        "credits_held": 429,
        "too_many_holds": 429,
        "too_many_keys": 429,
        "overloaded": 503,
        "backlog": 503,
        "rebuilding": 503,
        "unavailable": 503,
        "identity_unavailable": 503,
    }
)

#: `Retry-After` for short outages, and for longer ones, in seconds.
SOON_S = 1
_LATER_S = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A refusal. Two are equal only if they are the same object."""

    #: The reason, for programs.
    code: str
    #: The status of the response.
    status: int
    #: A sentence that is the same for all problems of the type.
    title: str
    #: A sentence about this refusal, for people.
    detail: str
    #: A URI; empty for our own type of the code.
    type: str = ""
    #: Further members of the body.
    extensions: Mapping[str, object] = field(default_factory=dict)
    #: The time until a retry can succeed, in seconds; None if waiting does not help.
    retry_after_s: int | None = None
    #: Whether more credits or a better policy would help.
    offers_upgrade: bool = False


def problem_of_outage(error: FaregateError) -> Problem:
    """Return the problem of an outage."""
    return REBUILDING if isinstance(error, LedgerUninitialisedError) else UNAVAILABLE


def _named(
    code: str, title: str, detail: str, *, kind: str = "", retry_after_s: int | None = None
) -> Problem:
    return Problem(
        code=code,
        status=STATUSES[code],
        title=title,
        detail=detail,
        type=kind,
        retry_after_s=retry_after_s,
    )


def _out_of_service(code: str, detail: str, retry_after_s: int = SOON_S) -> Problem:
    detail = f"{detail} This request is not charged."
    return _named(code, _CAPACITY_TITLE, detail, kind=REDUCED_CAPACITY, retry_after_s=retry_after_s)


#: The ledger cannot decide now, so it does not serve (it fails closed).
UNAVAILABLE = _out_of_service("unavailable", "The service cannot check credits right now.")
#: The ledger is missing or moves: only a rebuild helps.
REBUILDING = _out_of_service(
    "rebuilding", "The service is restoring its credit balances.", _LATER_S
)
#: More requests wait than can be decided in time. Some clients come back after one second, the
#: others after two. Made once, since an overload needs many fast answers.
OVERLOADED = tuple(
    _out_of_service("overloaded", "The service receives too many requests right now.", seconds)
    for seconds in (SOON_S, SOON_S + 1)
)
#: The caller cannot be identified now.
IDENTITY_UNAVAILABLE = _out_of_service(
    "identity_unavailable", "The service cannot check your identity right now."
)
#: Too many records wait for Postgres.
BACKLOG = _out_of_service("backlog", "Too many charges are waiting to be recorded.", _LATER_S)

NO_IDENTITY = _named(
    "no_identity",
    "Unauthorized",
    "This service charges credits. Send valid credentials.",
    kind=ABOUT_BLANK,
)
UNKNOWN_USER = _named(
    "unknown_user",
    "The user has no credit account",
    "Your credentials are valid, but you have no credit account.",
)
COST_OUT_OF_RANGE = _named(
    "cost_out_of_range",
    "The request costs too much",
    "This request exceeds the maximum cost of one request. It is not charged.",
)
INVALID_LIMIT = _named(
    "invalid_limit",
    "The page length is out of range",
    f"`limit` must be a number from 1 to {PAGE_LENGTH_MAX}.",
)
INVALID_CURSOR = _named(
    "invalid_cursor",
    "The cursor is invalid",
    "`cursor` must be the `next_cursor` of an earlier page.",
)
VOIDED = _named(
    "voided",
    "The charge was voided",
    "The charge of this request was voided, so the request is not served. Send a new request.",
)
TOO_MANY_HOLDS = _named(
    "too_many_holds",
    "Too many requests are in progress",
    "Your requests in progress hold credits until they end. Wait for one of them to end.",
    retry_after_s=SOON_S,
)
TOO_MANY_KEYS = _named(
    "too_many_keys",
    "Too many idempotency keys are stored",
    "You have sent too many different idempotency keys. Wait until some of them expire.",
)
KEY_REQUIRED = _named(
    "key_required",
    "The idempotency key is missing",
    "This request must not run twice by accident. Send it with an Idempotency-Key field.",
)
KEY_MALFORMED = _named(
    "key_malformed",
    "The idempotency key is malformed",
    'Send one Idempotency-Key field of 1 to 255 ASCII characters, such as "8e03978e".',
)
KEY_IN_FLIGHT = _named(
    "key_in_flight",
    "A request with this idempotency key is in progress",
    "Another request with this idempotency key is in progress. This request is not charged.",
    retry_after_s=SOON_S,
)
KEY_DONE = _named(
    "key_done",
    "A request with this idempotency key has been served",
    "A request with this idempotency key has already been served. This request is not charged.",
)
KEY_REUSED = _named(
    "key_reused",
    "The idempotency key belongs to another request",
    "This idempotency key belongs to a different request. Use a new key for each request.",
)
