"""Who is charged for a request, as an identity function says it; and what such functions read."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import TypeAlias
from uuid import UUID

from starlette.types import Scope

from faregate.domain.errors import ConfigurationError, IdentityAnswerError
from faregate.domain.user import user_id_of

#: How long a subject may be, in characters: as long as OpenID Connect allows (Core 1.0, section 2).
SUBJECT_LENGTH_MAX = 255

#: How long a credential may be, in bytes. A longer one is ignored, unread.
CREDENTIAL_BYTES_MAX = 8_192

#: What RFC 6750, section 2.1, allows a bearer token to consist of.
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = b"bearer "
#: A UUID as it is usually written; `UUID` itself reads braces, prefixes and hyphens anywhere.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user who sent a request, and what is known of it beside."""

    #: The user who is charged.
    user_id: UUID
    #: Whose policy holds; None for the tier that the gate knows the user by.
    tier: str | None = None
    #: Whose requests the policy's limits by key count, such as an API key.
    limit_key: str = ""

    def __post_init__(self) -> None:
        for what, value, kinds in (
            ("user id", self.user_id, UUID),
            ("tier", self.tier, str | None),
            ("limit key", self.limit_key, str),
        ):
            if not isinstance(value, kinds):
                kind = type(value).__name__
                raise IdentityAnswerError(f"the {what} of a caller is no {kind}")


#: Says whether a request passes without identity and without charge.
Exempt: TypeAlias = Callable[[Scope], bool]
#: What an identity function says; None for nobody.
Answer: TypeAlias = Caller | UUID | None

#: Says who sent a request, from its scope: a verified user, or None for nobody (then 401).
#: Async or not; one that is not must not wait for anything, since all requests would wait with it.
#: It must come from what was verified (a session, a signed token, a key that was looked up), never
#: from a header as it was sent nor from an address: both are the client's word. Where it cannot be
#: told now, it raises `IdentityUnavailableError` (then 503).
Identify: TypeAlias = Callable[[Scope], Awaitable[Answer] | Answer]


async def caller_of(identify: Identify, scope: Scope) -> Caller | None:
    """Return who sent a request, or None for nobody; errors are those of `caller_from`."""
    return await caller_from(identify(scope))


async def caller_from(answer: Answer | Awaitable[Answer]) -> Caller | None:
    """Return the caller that an identity function answers, or None for nobody.

    Raises:
        IdentityAnswerError: It answered something else, so it is not known who would be charged.
        IdentityUnavailableError: The caller cannot be told now.
    """
    found = await answer if isawaitable(answer) else answer
    if found is None or isinstance(found, Caller):
        return found
    if isinstance(found, UUID):
        return Caller(user_id=found)
    raise IdentityAnswerError(
        f"identify returns a Caller, a UUID or None, not {type(found).__name__}"
    )


def first_of(*ways: Identify) -> Identify:
    """Ask several identity functions in turn: the first that knows the caller decides.

    What raises ends it: somebody who cannot be told now is not taken for somebody else.

    Raises:
        ConfigurationError: There is none.
    """
    if not ways:
        raise ConfigurationError("first_of needs at least one identity function")

    async def identify(scope: Scope) -> Caller | None:
        for way in ways:
            caller = await caller_of(way, scope)
            if caller is not None:
                return caller
        return None

    return identify


def user_id_from(subject: object, namespace: UUID | None) -> UUID | None:
    """Return the user that a verified subject stands for, or None if it stands for none.

    A UUID, or a text that is one, is the user itself. Any other text or number is mapped to a user
    by `user_id_of`, if there is a namespace for it.
    """
    if isinstance(subject, UUID):
        return subject
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or len(subject) > SUBJECT_LENGTH_MAX:
        return None
    if _UUID.fullmatch(subject):
        return UUID(subject)
    if namespace is None or not subject or not subject.isprintable():
        return None
    return user_id_of(namespace, subject)


def credential(scope: Scope, field_name: bytes) -> str | None:
    """Return the credential in a field, or None if there is none, or if it could be several.

    In `authorization` it follows the scheme Bearer; any other field is the credential itself.
    """
    values = [value for name, value in scope["headers"] if name == field_name]
    if len(values) != 1 or len(values[0]) > CREDENTIAL_BYTES_MAX:
        return None
    (value,) = values
    if field_name == b"authorization":
        if value[: len(_SCHEME)].lower() != _SCHEME:
            return None
        value = value[len(_SCHEME) :]
    value = value.strip(b" ")
    return value.decode() if _TOKEN.fullmatch(value) else None


def is_cors_preflight(scope: Scope) -> bool:
    """Say whether a browser only asks if it may send a request (the CORS protocol of Fetch).

    Such a question carries no identity, whatever the user's, and the request it asks about is
    charged. Any other OPTIONS request is a request like others.
    """
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
